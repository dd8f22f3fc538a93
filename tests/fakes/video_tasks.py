"""Providers whose APIs of tasks are described in the catalog, as small real servers that behave as documented."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import time
from collections.abc import Callable
from typing import Any

from tests.fakes.video_apis import Answer, Asked, Omni, OpenAI, Task, Veo, VideoApi, needs


class DashScope(VideoApi):
    provider, prefix = "alibaba-video", "/api/v1"

    def route(self, asked: Asked) -> tuple[str, Callable[[], Answer]]:
        if asked.path == "/api/v1/services/aigc/video-generation/video-synthesis":
            return "submit", lambda: self.submit(asked)
        match = re.fullmatch(r"/api/v1/tasks/([\w-]+)(/cancel)?", asked.path)
        if match and match[2] and asked.method == "POST":
            return "cancel", lambda: self.cancel(match[1])
        if match and asked.method == "GET":
            return "look", lambda: self.look(match[1])
        return "nowhere", lambda: Answer({"code": "NotFound", "message": "no such path"}, 404)

    def submit(self, asked: Asked) -> Answer:
        asks = asked.body.get("input", {})
        if asked.headers.get("x-dashscope-async") != "enable":
            message = "current user api does not support synchronous calls"
            return Answer({"code": "AccessDenied", "message": message}, 403)
        if needs(asks, "prompt") or ("i2v" in asked.body["model"] and needs(asks, "img_url")):
            return Answer({"code": "InvalidParameter", "message": "input is not complete"}, 400)
        task = self.begin(asked)
        return Answer({"output": {"task_id": task.id, "task_status": "PENDING"}, "request_id": "r"})

    def look(self, task_id: str) -> Answer:
        task = self.tasks.get(task_id)
        if task is None:
            return Answer({"output": {"task_id": task_id, "task_status": "UNKNOWN"}, "request_id": "r"})
        word = self.word(task)
        states = {
            "queued": "PENDING", "running": "RUNNING", "made": "SUCCEEDED", "failed": "FAILED", "moderated": "FAILED",
            "cancelled": "CANCELED",
        }  # fmt: skip
        output: dict[str, Any] = {"task_id": task_id, "task_status": states[word]}
        answer: dict[str, Any] = {"output": output, "request_id": "r"}
        if word == "made":
            output["video_url"] = self.file(task)
            answer["usage"] = {"duration": self.length(task), "video_count": 1, "SR": 720}
        if word == "failed":
            output |= {"code": "InternalError", "message": "The task failed."}
        if word == "moderated":
            output |= {"code": "DataInspectionFailed", "message": "Output data may contain inappropriate content."}
        return Answer(answer)

    def cancel(self, task_id: str) -> Answer:
        task = self.tasks[task_id]
        if task.polls > 1:
            message = "Failed to cancel the task, please confirm if the task is in PENDING status."
            return Answer({"code": "UnsupportedOperation", "message": message, "request_id": "r"}, 400)
        task.cancelled = True
        return Answer({"request_id": "r"})


class MiniMax(VideoApi):
    provider, prefix = "minimax-video", "/v1"

    def unauthorized(self) -> Answer:
        return Answer({"base_resp": {"status_code": 1004, "status_msg": "login fail"}})

    def route(self, asked: Asked) -> tuple[str, Callable[[], Answer]]:
        if (asked.method, asked.path) == ("POST", "/v1/video_generation"):
            return "submit", lambda: self.submit(asked)
        if asked.path == "/v1/query/video_generation":
            return "look", lambda: self.look(asked.query["task_id"][0])
        if asked.path == "/v1/files/retrieve":
            task = next(task for task in self.tasks.values() if f"file-{task.id}" == asked.query["file_id"][0])
            address = {"file": {"file_id": 1, "download_url": self.file(task)}}
            return "link", lambda: Answer({**address, "base_resp": {"status_code": 0, "status_msg": "success"}})
        return "nowhere", lambda: Answer({"base_resp": {"status_code": 2013, "status_msg": "no such path"}}, 404)

    def submit(self, asked: Asked) -> Answer:
        if needs(asked.body, "model", "prompt") or asked.body.get("resolution") not in ("512P", "768P", "1080P"):
            return Answer({"base_resp": {"status_code": 2013, "status_msg": "invalid params"}})
        if self.outcome == "moderated":
            return Answer({"base_resp": {"status_code": 1026, "status_msg": "input new_sensitive"}})
        return Answer({"task_id": self.begin(asked).id, "base_resp": {"status_code": 0, "status_msg": "success"}})

    def look(self, task_id: str) -> Answer:
        task = self.tasks.get(task_id)
        if task is None:
            return Answer({"base_resp": {"status_code": 0, "status_msg": "success"}}, 404)
        word = self.word(task)
        states = {"queued": "Queueing", "running": "Processing", "made": "Success", "failed": "Fail"}
        answer = {"task_id": task_id, "status": states[word], "base_resp": {"status_code": 0, "status_msg": "success"}}
        return Answer(answer | ({"file_id": f"file-{task_id}"} if word == "made" else {}))


class Xai(VideoApi):
    provider, prefix = "xai-video", "/v1"

    def route(self, asked: Asked) -> tuple[str, Callable[[], Answer]]:
        if (asked.method, asked.path) == ("POST", "/v1/videos/generations"):
            return "submit", lambda: self.submit(asked)
        match = re.fullmatch(r"/v1/videos/([\w-]+)", asked.path)
        if match:
            return "look", lambda: self.look(match[1])
        return "nowhere", lambda: Answer({"code": "not found", "error": "no such path"}, 404)

    def submit(self, asked: Asked) -> Answer:
        if needs(asked.body, "prompt") or asked.body.get("resolution") not in ("480p", "720p"):
            return Answer({"code": "invalid-argument", "error": "The request is invalid."}, 400)
        return Answer({"request_id": self.begin(asked).id})

    def look(self, task_id: str) -> Answer:
        task = self.tasks.get(task_id)
        if task is None:
            return Answer({"code": "not-found", "error": "Request not found."}, 404)
        word = self.word(task)
        if word in ("queued", "running"):
            return Answer({"status": "pending", "progress": 40}, 202)
        if word == "failed":
            return Answer({"status": "failed", "error": {"code": "internal", "message": "It broke."}})
        video: dict[str, Any] = {"url": self.file(task), "duration": self.length(task), "respect_moderation": True}
        if word == "moderated":
            video = {"url": "", "duration": 0, "respect_moderation": False}
        return Answer({"status": "done", "video": video, "model": "grok-imagine-video"})


class Ark(VideoApi):
    provider, prefix = "bytedance-video", "/api/v3"

    def route(self, asked: Asked) -> tuple[str, Callable[[], Answer]]:
        if (asked.method, asked.path) == ("POST", "/api/v3/contents/generations/tasks"):
            return "submit", lambda: self.submit(asked)
        match = re.fullmatch(r"/api/v3/contents/generations/tasks/([\w-]+)", asked.path)
        if match and asked.method == "DELETE":
            return "cancel", lambda: self.cancel(match[1])
        if match:
            return "look", lambda: self.look(match[1])
        return "nowhere", lambda: Answer({"error": {"code": "InvalidAction", "message": "no such path"}}, 404)

    def submit(self, asked: Asked) -> Answer:
        content = asked.body.get("content") or []
        texts = [part for part in content if part.get("type") == "text" and part.get("text")]
        pictures = [part for part in content if part.get("type") == "image_url"]
        if len(texts) != 1 or any(not part["image_url"]["url"] or not part.get("role") for part in pictures):
            return Answer({"error": {"code": "InvalidParameter", "message": "content is wrong"}}, 400)
        if self.outcome == "moderated":
            code = "InputTextSensitiveContentDetected"
            return Answer(
                {"error": {"code": code, "message": "The input text may contain sensitive information."}}, 400
            )
        return Answer({"id": self.begin(asked).id})

    def look(self, task_id: str) -> Answer:
        task = self.tasks.get(task_id)
        if task is None:
            return Answer({"error": {"code": "ResourceNotFound", "message": "The task is not found."}}, 404)
        word = self.word(task)
        states = {"made": "succeeded"}
        answer: dict[str, Any] = {"id": task_id, "model": task.body["model"], "status": states.get(word, word)}
        if word == "made":
            answer |= {"content": {"video_url": self.file(task)}, "duration": self.length(task)}
        if word == "failed":
            answer["error"] = {"code": "InternalServiceError", "message": "The service failed."}
        return Answer(answer)

    def cancel(self, task_id: str) -> Answer:
        task = self.tasks[task_id]
        if task.polls > 1:
            return Answer({"error": {"code": "InvalidAction.RunningTaskDeletion", "message": "it runs"}}, 409)
        task.cancelled = True
        return Answer({})


class Kling(VideoApi):
    provider = "kling"
    secret = "access-key-1:secret-key-1"

    def knows(self, headers: dict[str, str]) -> bool:
        """A JWT of the secret key that names the access key and is good now."""
        head, _, rest = headers.get("authorization", "").removeprefix("Bearer ").partition(".")
        claims, _, signature = rest.partition(".")
        access, _, key = self.secret.partition(":")
        expected = hmac.new(key.encode(), f"{head}.{claims}".encode(), hashlib.sha256).digest()
        if base64.urlsafe_b64encode(expected).rstrip(b"=").decode() != signature:
            return False
        said = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))
        return bool(said["iss"] == access and said["nbf"] <= time.time() < said["exp"])

    def unauthorized(self) -> Answer:
        return Answer({"code": 1000, "message": "Authentication failed"}, 401)

    def route(self, asked: Asked) -> tuple[str, Callable[[], Answer]]:
        match = re.fullmatch(r"/v1/videos/(text2video|image2video|omni-video)(?:/([\w-]+))?", asked.path)
        if match and asked.method == "POST" and not match[2]:
            return "submit", lambda: self.submit(asked, match[1])
        if match and asked.method == "GET" and match[2]:
            return "look", lambda: self.look(match[1], match[2])
        return "nowhere", lambda: Answer({"code": 1202, "message": "no such path"}, 404)

    def submit(self, asked: Asked, way: str) -> Answer:
        body = asked.body
        if lacking := needs(body, "model_name", "mode", "duration"):
            return Answer({"code": 1201, "message": f"{lacking} is invalid"}, 400)
        pictured = needs(body, "image") and way == "image2video"
        if pictured or not isinstance(body["duration"], str) or str(body.get("image", "")).startswith("data:"):
            return Answer({"code": 1201, "message": "parameters are invalid"}, 400)
        if any(task.body["external_task_id"] == body["external_task_id"] for task in self.tasks.values()):
            return Answer({"code": 1201, "message": "external_task_id is used"}, 400)
        if self.outcome == "moderated":
            return Answer({"code": 1301, "message": "The request triggered the platform's content security rules"}, 400)
        return Answer(self._task(self.begin(asked), "submitted"))

    def look(self, way: str, task_id: str) -> Answer:
        found = (task for task in self.tasks.values() if task_id in (task.id, task.body["external_task_id"]))
        task = next((task for task in found if task.path.endswith(way)), None)
        if task is None:
            return Answer({"code": 1203, "message": "The requested resource does not exist"}, 404)
        words = {"queued": "submitted", "running": "processing", "made": "succeed"}
        word = self.word(task)
        return Answer(self._task(task, words.get(word, word)))

    def _task(self, task: Task, state: str) -> dict[str, Any]:
        data: dict[str, Any] = {"task_id": task.id, "task_status": state, "task_status_msg": ""}
        if state == "succeed":
            length = str(self.seconds if self.seconds is not None else task.body["duration"])
            data["task_result"] = {"videos": [{"id": "v", "url": self.file(task), "duration": length}]}
        if state == "failed":
            data["task_status_msg"] = "The engine broke."
        return {"code": 0, "message": "SUCCEED", "request_id": "r", "data": data}


class Vidu(VideoApi):
    provider = "vidu"

    def knows(self, headers: dict[str, str]) -> bool:
        return headers.get("authorization") == f"Token {self.secret}"

    def route(self, asked: Asked) -> tuple[str, Callable[[], Answer]]:
        match = re.fullmatch(r"/ent/v2/(text2video|img2video|start-end2video)", asked.path)
        if match and asked.method == "POST":
            return "submit", lambda: self.submit(asked, match[1])
        match = re.fullmatch(r"/ent/v2/tasks/([\w-]+)/(creations|cancel)", asked.path)
        if match and match[2] == "cancel":
            return "cancel", lambda: self.cancel(match[1])
        if match:
            return "look", lambda: self.look(match[1])
        return "nowhere", lambda: Answer({"code": 404, "reason": "NotFound", "message": "no such path"}, 404)

    def submit(self, asked: Asked, way: str) -> Answer:
        wanted = {"text2video": 0, "img2video": 1, "start-end2video": 2}[way]
        if needs(asked.body, "model", "prompt") or len(asked.body.get("images", [])) != wanted:
            return Answer({"code": 400, "reason": "FieldInvalid", "message": "fields are invalid"}, 400)
        if self.outcome == "moderated":
            return Answer({"code": 400, "reason": "AuditSubmitIllegal", "message": "The content is not allowed."}, 400)
        return Answer({"task_id": self.begin(asked).id, "state": "created", "model": asked.body["model"]})

    def look(self, task_id: str) -> Answer:
        task = self.tasks.get(task_id)
        if task is None:
            return Answer({"code": 404, "reason": "TaskNotFound", "message": "there is no such task"}, 404)
        word = self.word(task)
        words = {"queued": "queueing", "running": "processing", "made": "success", "cancelled": "canceled"}
        answer: dict[str, Any] = {"id": task_id, "state": words.get(word, word), "err_code": "", "creations": []}
        if word == "made":
            answer["creations"] = [{"id": "c", "url": self.file(task), "cover_url": f"{self.base_url}/files/cover.png"}]
        if word == "failed":
            answer["err_code"] = "SystemError"
        return Answer(answer)

    def cancel(self, task_id: str) -> Answer:
        self.tasks[task_id].cancelled = True
        return Answer({})


class Bfl(VideoApi):
    """Pictures, by the same adapter."""

    provider, prefix = "black-forest-labs", "/v1"

    def knows(self, headers: dict[str, str]) -> bool:
        return headers.get("x-key") == self.secret

    def route(self, asked: Asked) -> tuple[str, Callable[[], Answer]]:
        if asked.method == "POST":
            return "submit", lambda: self.submit(asked)
        return "look", lambda: self.look(asked.query["id"][0])

    def submit(self, asked: Asked) -> Answer:
        if needs(asked.body, "prompt"):
            return Answer({"detail": [{"loc": ["body", "prompt"], "msg": "Field required", "type": "missing"}]}, 422)
        task = self.begin(asked)
        return Answer({"id": task.id, "polling_url": f"{self.base_url}/v1/get_result?id={task.id}"})

    def look(self, task_id: str) -> Answer:
        task = self.tasks.get(task_id)
        if task is None:
            return Answer({"id": task_id, "status": "Task not found"}, 404)
        words = {"queued": "Pending", "running": "Pending", "made": "Ready", "failed": "Error"}
        word = self.word(task)
        result = {"sample": self.file(task)} if word == "made" else None
        state = words.get(word, "Content Moderated")
        return Answer({"id": task_id, "status": state, "result": result, "progress": None})


VIDEO_APIS: list[type[VideoApi]] = [OpenAI, Veo, Omni, DashScope, MiniMax, Xai, Ark, Kling, Vidu]
