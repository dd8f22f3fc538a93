"""``python -m upstreams.sandbox --port 8090``: serves until it is told to stop."""

from __future__ import annotations

import argparse
import asyncio
import signal

from upstreams.sandbox import audio, chat, embeddings, gemini, images, messages, responses, videos
from upstreams.sandbox.plans import Planner
from upstreams.sandbox.server import Server


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m upstreams.sandbox", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, required=True, help="port to listen on")
    parser.add_argument("--speed", type=float, default=1.0, help="1 is lifelike, 2 twice as fast, 0 without waiting")
    options = parser.parse_args()
    asyncio.run(serve(options.host, options.port, options.speed))


async def serve(host: str, port: int, speed: float) -> None:
    """Listen until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    planner = Planner()
    server = Server(
        {
            "/chat/completions": chat.Endpoint(planner, speed),
            "/embeddings": embeddings.Endpoint(),
            "/images/generations": images.Endpoint(speed),
            "/audio/speech": audio.Speech(),
            "/audio/transcriptions": audio.Transcriptions(),
            "/audio/translations": audio.Transcriptions(),
            "/messages": messages.Endpoint(planner, speed),
            "/messages/count_tokens": messages.Count(),
            "/responses": responses.Endpoint(planner, speed),
            ":generateContent": gemini.Endpoint(planner, speed),
            ":streamGenerateContent": gemini.Streaming(planner, speed),
            ":countTokens": gemini.Count(),
        },
        [videos.Videos(speed)],
    )
    await server.start(host, port)
    await stop.wait()
    await server.close()


if __name__ == "__main__":
    main()
