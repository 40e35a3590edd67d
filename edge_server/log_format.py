"""Logs on stderr: each record a line of text or a JSON object."""

from __future__ import annotations

import json
import logging
import re
import sys
from datetime import UTC, datetime
from typing import Any

_OWN = {*vars(logging.makeLogRecord({})), "message", "asctime", "color_message"}
"""What is no extra; the last one is uvicorn's copy of its message."""
_BARE = re.compile(r"[\w.:/@+-]+", re.ASCII)


class TextLines(logging.Formatter):
    """What ``extra`` holds stands behind the message as name=value; what is no plain word is quoted as in JSON, so that
    nobody's name breaks a line."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:
        shown = (f" {name}={_shown(value)}" for name, value in _extra(record).items())
        return super().formatMessage(record) + "".join(shown)


class JsonLines(logging.Formatter):
    """time (UTC), level, logger and message; what ``extra`` holds, by its names; exception, with its traceback."""

    def format(self, record: logging.LogRecord) -> str:
        fields = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_extra(record),
        }
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return json.dumps(fields, default=str)


FORMATS: dict[str, type[logging.Formatter]] = {"text": TextLines, "json": JsonLines}


def set_up_logs(form: str, level: str = "warning") -> None:
    """``form`` of :data:`FORMATS`. Where something else has set up the process's logs, that stays; but no ``level`` shows what
    hpack decodes, tokens among it."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(FORMATS[form]())
    logging.basicConfig(level=level.upper(), handlers=[handler])
    logging.getLogger("hpack").setLevel(logging.INFO)


def _extra(record: logging.LogRecord) -> dict[str, Any]:
    return {name: value for name, value in vars(record).items() if name not in _OWN}


def _shown(value: Any) -> str:
    text = str(value)
    return text if _BARE.fullmatch(text) else json.dumps(text)
