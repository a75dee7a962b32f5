"""Structured logs: one format for our code and for the libraries below it."""

import logging
import sys
from typing import Any, Final

import structlog

#: Libraries that say at INFO what is of no use to an operator.
_QUIET: Final = ("apscheduler", "dramatiq", "psycopg.pool")


def configure(*, level: str = "info", form: str = "auto") -> None:
    """Send every log record of this process to standard error as one line.

    Args:
        level: least severe level that is written: debug, info, warning, error.
        form: ``json``, ``console``, or ``auto`` for console on a terminal and JSON elsewhere.
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
    last: list[Any]
    if form == "console" or (form == "auto" and colours):
        last = [structlog.dev.ConsoleRenderer(colors=colours)]
    else:
        last = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    # It writes several errors and a traceback for each attempt to connect; we say it in a line.
    logging.getLogger("pika").setLevel(logging.CRITICAL)
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
