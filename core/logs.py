"""Log lines: one JSON object each, with everything that looks like a secret taken out before it is written."""

from __future__ import annotations

import json
import logging
import re
from datetime import UTC, datetime

_SECRETS = re.compile(
    r"ck_[0-9A-Za-z]{16,}"  # our keys, also cut short
    r"|(?:sk|rk|pk|whsec)[_-][0-9A-Za-z_-]{8,}"  # Stripe's and providers' keys
    r"|(?<=[?&]key=)[^&\s\"']+"  # a key in a query string
    r"|(?i:(?<=bearer )[0-9a-z._~+/=-]{8,})"
    r"|(?i:(?<=x-api-key: )\S+|(?<=x-goog-api-key: )\S+)"
    r"|AIza[0-9A-Za-z_-]{20,}"
)
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def scrub(text: str) -> str:
    """``text`` with every secret that can be recognised replaced by ``[secret]``."""
    return _SECRETS.sub("[secret]", text)


class Scrub(logging.Filter):
    """Formats the message early, so that a secret among its arguments is found too."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg = scrub(record.getMessage())
        record.args = None
        return True


class JsonFormatter(logging.Formatter):
    """One object a line: time, level, logger, message, and whatever `extra` brought."""

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        entry.update({k: v for k, v in vars(record).items() if k not in _STANDARD and not k.startswith("_")})
        entry.pop("request", None)
        if record.exc_info:
            entry["exception"] = scrub(self.formatException(record.exc_info))
        return json.dumps(entry, default=lambda value: scrub(str(value)), ensure_ascii=False)
