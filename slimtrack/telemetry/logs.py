"""Structured logs: one format for our code and for the libraries below it."""

import logging
import sys
import threading
import traceback
import warnings
from types import TracebackType
from typing import Any, Final

import structlog

from slimtrack.telemetry.outages import Outages
from slimtrack.telemetry.scrubbing import first_line, without_secrets

_log: Final = structlog.get_logger()

#: The least severe level of a library that is of use to an operator.
_LIBRARIES: Final = {
    "apscheduler": logging.WARNING,
    "dramatiq": logging.WARNING,
    # What an actor raises is settled, and said of each row.
    "dramatiq.worker.WorkerThread": logging.CRITICAL,
    # It says at every try that the collector does not answer.
    "opentelemetry": logging.CRITICAL,
    # They write errors and tracebacks for each attempt to connect; we say it in a line.
    "pika": logging.CRITICAL,
    "psycopg.pool": logging.WARNING,
}
#: Errors that led to an error, at most: a chain has no end where somebody made it a circle.
_MOST_CAUSES: Final = 10


def configure(*, level: str = "info", form: str = "auto", uncaught: bool = True) -> None:
    """Send every log record of this process to standard error as one line.

    Args:
        level: least severe level that is written: debug, info, warning, error.
        form: ``json``, ``console``, or ``auto`` for console on a terminal and JSON elsewhere.
        uncaught: whether errors that nobody catches, and warnings of Python, are such lines too.
    """
    # Dramatiq replaces sys.stderr in its workers by a pipe to the master, which writes all
    # lines in one thread; the original is faster and cannot fill up.
    stream = sys.__stderr__ or sys.stderr
    colours = stream.isatty()
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    last: list[Any] = [structlog.processors.ExceptionRenderer(_format_error), _without_secrets]
    if form == "console" or (form == "auto" and colours):
        last += [
            _on_one_line,
            structlog.dev.ConsoleRenderer(
                colors=colours, exception_formatter=structlog.dev.plain_traceback
            ),
        ]
    else:
        last.append(structlog.processors.JSONRenderer())
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    handler.addFilter(Outages())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name, least in _LIBRARIES.items():
        logging.getLogger(name).setLevel(max(least, root.level))
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    if uncaught:
        sys.excepthook = _on_uncaught
        threading.excepthook = _on_uncaught_in_thread
        sys.unraisablehook = _on_unraisable
        warnings.showwarning = _on_warning


def _on_uncaught(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    if issubclass(kind, Exception):
        _log.critical("process.failed", exc_info=(kind, error, trace))
    else:  # Ctrl-C
        sys.__excepthook__(kind, error, trace)


def _on_uncaught_in_thread(uncaught: threading.ExceptHookArgs) -> None:
    if uncaught.exc_value is not None and uncaught.exc_type is not SystemExit:
        name = uncaught.thread.name if uncaught.thread else "unknown"
        _log.critical("thread.failed", thread=name, exc_info=uncaught.exc_value)


def _on_unraisable(unraisable: "sys.UnraisableHookArgs") -> None:
    # What it was about may be half gone, and is not asked for its name.
    about = type(unraisable.object).__name__
    _log.error("error.ignored", about=about, exc_info=unraisable.exc_value)


def _on_warning(  # noqa: PLR0917 - the signature of Python
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: Any = None,
    line: str | None = None,
) -> None:
    del file, line
    where = f"{filename}:{lineno}"
    _log.warning("warning.raised", category=category.__name__, warning=str(message), where=where)


def _format_error(exc_info: Any) -> str:
    """Return an error and what led to it: where it was raised, and the first line of what it says.

    No local variables: they hold passwords and what belongs to callers.
    """
    parts: list[str] = []
    error: BaseException | None = exc_info[1]
    while error is not None and len(parts) < _MOST_CAUSES:
        frames = "".join(traceback.format_tb(error.__traceback__))
        parts.append(f"{frames}{type(error).__qualname__}: {first_line(str(error))}")
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return "\nwhich led to\n".join(reversed(parts))


def _without_secrets(_logger: Any, _method: str, event: dict[str, Any]) -> dict[str, Any]:
    """Take passwords and keys out of whatever is said, also by libraries."""
    for name, value in event.items():
        if isinstance(value, str):
            event[name] = without_secrets(value)
    return event


def _on_one_line(_logger: Any, _method: str, event: dict[str, Any]) -> dict[str, Any]:
    """Let no value end its line, or command a terminal; the lines of a traceback are indented."""
    for name, value in event.items():
        if name in {"exception", "stack"}:
            lines = str(value).split("\n")
            event[name] = "\n".join(f"    {_printable(line)}" for line in lines)
        elif isinstance(value, str):
            event[name] = _printable(value)
    return event


def _printable(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in text
    )
