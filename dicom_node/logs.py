"""How the node logs: one event, one line, ids as fields, and nothing about patients."""

from __future__ import annotations

import json
import logging
import traceback
from datetime import UTC, datetime
from types import TracebackType

from configs.errors import NodeError
from configs.settings import LogSettings

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}
#: Loggers of libraries whose lines may hold values of data sets, or only noise.
_QUIET = ("pynetdicom", "pydicom", "py.warnings", "uvicorn", "uvicorn.access", "alembic", "dbos", "highdicom", "PIL")
_EXCEPTION = tuple[type[BaseException], BaseException, TracebackType | None]


def configure(settings: LogSettings, *, role: str) -> None:
    """Send this process's log to its error stream, each line naming the role."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines(role) if settings.form == "json" else TextLines(role))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.level)
    logging.captureWarnings(True)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.CRITICAL)


class TextLines(logging.Formatter):
    """`2026-11-24T09:30:00.123Z INFO receiver: instance kept action=kept sop_instance_uid=1.2.3`."""

    def __init__(self, role: str) -> None:
        super().__init__()
        self.role = role

    def format(self, record: logging.LogRecord) -> str:
        """Give one line; control characters in values are escaped, so that no peer can forge a line."""
        fields = " ".join(f"{name}={_plain(value)}" for name, value in _fields(record).items())
        line = f"{_time(record)} {record.levelname} {self.role}: {_plain(record.getMessage())} {fields}".rstrip()
        if record.exc_info and record.exc_info[0]:
            line += "\n" + describe(record.exc_info)
        return line


class JsonLines(logging.Formatter):
    """The same as one JSON object a line."""

    def __init__(self, role: str) -> None:
        super().__init__()
        self.role = role

    def format(self, record: logging.LogRecord) -> str:
        """Give one line of JSON."""
        line: dict[str, object] = {"time": _time(record), "level": record.levelname, "role": self.role}
        line |= {"message": record.getMessage()} | _fields(record)
        if record.exc_info and record.exc_info[0]:
            line["exception"] = describe(record.exc_info)
        return json.dumps(line, default=str)


def describe(exception: _EXCEPTION | tuple[None, None, None]) -> str:
    """Tell where an exception came from, without the values that foreign exceptions quote.

    Messages of our own errors and of the operating system are safe; a parser's message may hold a patient's name.
    """
    lines: list[str] = []
    error: BaseException | None = exception[1]
    while error is not None:
        frames = traceback.extract_tb(error.__traceback__)
        lines += [f"  {frame.filename}:{frame.lineno} in {frame.name}" for frame in frames]
        safe = isinstance(error, NodeError | OSError)
        lines.append(f"  {type(error).__name__}" + (f": {_plain(error)}" if safe else ""))
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return "\n".join(lines)


def _fields(record: logging.LogRecord) -> dict[str, object]:
    return {name: value for name, value in vars(record).items() if name not in _STANDARD}


def _plain(value: object) -> str:
    text = str(value)
    return text if text.isprintable() else text.encode("unicode_escape").decode("ascii")


def _time(record: logging.LogRecord) -> str:
    at = datetime.fromtimestamp(record.created, UTC)
    return at.strftime("%Y-%m-%dT%H:%M:%S.") + f"{at.microsecond // 1000:03d}Z"
