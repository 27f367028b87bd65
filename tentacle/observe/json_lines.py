"""A log record as one JSON object a line (docs/spec/json.md, "Log lines").

What a line belongs to, a server, a script, a trace, is noted when it is logged: it may be written later.  Must not know
where lines go.
"""

from __future__ import annotations

import json
import logging
import threading
from datetime import UTC, datetime
from typing import Any

from tentacle.observe.levels import short_name
from tentacle.trace_context import Work, current_work


def note_work(record: logging.LogRecord) -> bool:
    """A filter that keeps everything, and notes on the record what is worked for."""
    if not hasattr(record, "work"):
        record.work = current_work()
    return True


class JsonFormatter(logging.Formatter):
    """One object, in ASCII, without a line feed at its end: nothing that was logged can begin a line of its own."""

    def format(self, record: logging.LogRecord) -> str:
        when = datetime.fromtimestamp(record.created, UTC)
        line: dict[str, Any] = {
            "Time": f"{when:%Y-%m-%dT%H:%M:%S.%f}"[:-3] + "Z",
            "Level": short_name(record.levelno).capitalize(),
            "Message": record.getMessage(),
            "Logger": record.name,
            "ProcessId": record.process,
            "ThreadId": threading.get_native_id(),
        }
        work: Work = getattr(record, "work", None) or Work()
        line |= {"Server": work.server} if work.server else {}
        line |= {"Ticket": work.ticket} if work.ticket else {}
        line |= {"TraceId": work.trace.trace_id, "SpanId": work.trace.span_id} if work.trace else {}
        if record.exc_info and not record.exc_text:
            record.exc_text = self.formatException(record.exc_info)
        line |= {"Exception": record.exc_text} if record.exc_text else {}
        return json.dumps(line)
