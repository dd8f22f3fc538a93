"""Static files on the web face: WhiteNoise's answers, each as one piece.

A body that streams from a file is read to its end by Django before the first byte goes out, since ASGI can't wait for
a file, and Django warns of that. So it is read here, where a thread has the request anyway. The files are the site's
own scripts and styles: a megabyte at most, and sent once a browser.
"""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from whitenoise.middleware import WhiteNoiseMiddleware
from whitenoise.responders import StaticFile


class StaticFilesMiddleware(WhiteNoiseMiddleware):  # type: ignore[misc]  # it has no types
    """WhiteNoise as it is, but for how a body leaves."""

    @staticmethod
    def serve(static_file: StaticFile, request: HttpRequest) -> HttpResponse:
        """The file, the asked part of it, or what says that the caller has it."""
        found = static_file.get_response(request.method, request.META)
        body = b""
        if found.file is not None:
            with found.file as file:
                body = file.read()
        response = HttpResponse(body, status=int(found.status))
        del response["content-type"]  # WhiteNoise names it where there is a body
        for name, value in found.headers:
            response[name] = value
        return response
