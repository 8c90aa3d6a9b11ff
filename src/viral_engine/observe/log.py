from __future__ import annotations

import json
import logging
import sys
import traceback
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TextIO

from viral_engine.observe.events import CircuitOpened, Event, NodeLost, RequestRouted

__all__ = ["LineFormatter", "log_event", "write_lines_to"]

_LOG = logging.getLogger("viral_engine")


class LineFormatter(logging.Formatter):
    """Formats a record as one line of JSON; an exception becomes a field, never more lines."""

    def __init__(self, *, region: str, machine: str) -> None:
        super().__init__()
        self._place = {"region": region, "machine": machine}

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without its end."""
        line = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            **self._place,
            "logger": record.name,
            "message": record.getMessage(),
        }
        fields = getattr(record, "event", None)
        if isinstance(fields, dict):
            line |= fields
        if record.exc_info and record.exc_info[0] is not None:
            line["error"] = "".join(traceback.format_exception_only(*record.exc_info[:2])).strip()
            line["traceback"] = "".join(traceback.format_exception(*record.exc_info))
        return json.dumps(line, ensure_ascii=False, default=str)


def write_lines_to(stream: TextIO = sys.stderr, *, region: str, machine: str) -> None:
    """Send every log record of this process, from INFO on, to ``stream`` as lines of JSON."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(LineFormatter(region=region, machine=machine))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.INFO)
    # The pool reports every loan at INFO; its warnings are about connections and worth a line.
    logging.getLogger("psycopg").setLevel(logging.WARNING)


def log_event(event: Event) -> None:
    """Write an event to the log: a loss as a warning, anything else as information.

    A request that was served as planned, near or at the primary here, only where DEBUG is asked for.
    """
    level = _level_of(event)
    if not _LOG.isEnabledFor(level):
        return
    name = type(event).__name__
    fields = {"event": name, **{f"event_{key}": value for key, value in asdict(event).items()}}
    _LOG.log(level, name, extra={"event": fields})


def _level_of(event: Event) -> int:
    if isinstance(event, RequestRouted):
        return logging.DEBUG if event.route == "local" else logging.INFO
    return logging.WARNING if isinstance(event, NodeLost | CircuitOpened) else logging.INFO
