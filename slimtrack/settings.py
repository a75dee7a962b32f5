"""The configuration of every process: one frozen object, read from the environment once."""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from ipaddress import ip_address
from typing import Any, Final
from urllib.parse import urlsplit

from slimtrack.domain.errors import SettingsError
from slimtrack.domain.order import JOURNEY, Status

#: A module and something in it.
_PATH: Final = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*", re.ASCII)


def _url(*schemes: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        try:
            parts = urlsplit(text)
            usable = parts.scheme in schemes and bool(parts.hostname)
        except ValueError:  # what it says quotes the password
            usable = False
        if not usable:
            raise ValueError(f"must be a URL like {schemes[0]}://user:password@host:port/name")
        return text

    return read


def _integer(least: int, most: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not (text.isascii() and text.isdecimal() and least <= int(text) <= most):
            raise ValueError(f"must be a whole number from {least} to {most}")
        return int(text)

    return read


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= 31_536_000:
        raise ValueError("must be a number of seconds from 0 to 31536000")
    return seconds


def _works(text: str) -> Mapping[Status, str]:
    works: dict[Status, str] = {}
    for part in text.split(",") if text else ():
        stage, _, path = (each.strip() for each in part.partition("="))
        if stage not in JOURNEY or Status(stage) in works or not _PATH.fullmatch(path):
            raise ValueError(
                "must be STAGE=MODULE:CALLABLE, separated by commas, each stage once of "
                f"{', '.join(JOURNEY)}"
            )
        works[Status(stage)] = path
    return works


def _lifetime(text: str) -> float:
    try:
        seconds = _seconds(text)
    except ValueError:
        seconds = 0.0
    if seconds < 60:
        raise ValueError("must be a number of seconds from 60 to 31536000")
    return seconds


def _time_limit(text: str) -> float:
    try:
        seconds = _seconds(text)
    except ValueError:
        seconds = 0.0
    if not 0.1 <= seconds <= 600:
        raise ValueError("must be a number of seconds from 0.1 to 600")
    return seconds


def _delays(text: str) -> Mapping[Status, float]:
    parts = text.split(",")
    try:
        delays = [_seconds(part.strip()) for part in parts]
    except ValueError:
        delays = []
    if len(delays) == 1:
        delays *= len(JOURNEY)
    if len(delays) != len(JOURNEY):
        names = ", ".join(JOURNEY)
        raise ValueError(f"must be one number of seconds, or one each for {names}, as in 3,5,5,6")
    return dict(zip(JOURNEY, delays, strict=True))


def _choice(*choices: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in choices:
            raise ValueError(f"must be one of {', '.join(choices)}")
        return text

    return read


def _switch(text: str) -> bool:
    if text not in {"on", "off"}:
        raise ValueError("must be on or off")
    return text == "on"


def _bind(text: str) -> str:
    host, _, port = text.rpartition(":")
    if not host or not (port.isascii() and port.isdecimal() and 0 < int(port) < 65536):
        raise ValueError("must be HOST:PORT, as in 127.0.0.1:8080")
    return text


def _setting(name: str, read: Callable[[str], Any], default: str | None, what: str) -> Any:
    """Declare a setting: environment variable, its reader, its default as text, what it is.

    One without a default has to be set.
    """
    return field(metadata={"name": name, "read": read, "default": default, "what": what})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the environment configures; see the README's table for the meaning of each."""

    database_url: str = _setting(
        "DATABASE_URL", _url("postgresql", "postgres"), None, "PostgreSQL, the truth"
    )
    amqp_url: str = _setting("AMQP_URL", _url("amqp", "amqps"), None, "RabbitMQ, the conduit")
    redis_url: str = _setting("REDIS_URL", _url("redis", "rediss"), None, "Redis, the cache")
    api_bind: str = _setting(
        "SLIMTRACK_API_BIND", _bind, "127.0.0.1:8080", "address the API listens on"
    )
    api_workers: int = _setting(
        "SLIMTRACK_API_WORKERS", _integer(1, 64), "2", "gunicorn worker processes"
    )
    request_time_limit: float = _setting(
        "SLIMTRACK_REQUEST_TIME_LIMIT",
        _time_limit,
        "20",
        "seconds from a request's first byte to its answer's last, at most",
    )
    authentication: bool = _setting(
        "SLIMTRACK_AUTH", _switch, "on", "whether callers need an API key"
    )
    rate_limit: int = _setting(
        "SLIMTRACK_RATE_LIMIT",
        _integer(0, 1_000_000_000),
        "6000",
        "requests per minute and API key; 0 for no limit",
    )
    answer_lifetime: float = _setting(
        "SLIMTRACK_IDEMPOTENCY_LIFETIME",
        _lifetime,
        "86400",
        "seconds for which an Idempotency-Key is remembered",
    )
    events: bool = _setting(
        "SLIMTRACK_EVENTS", _switch, "off", "whether events are published for other services"
    )
    api_threads: int = _setting(
        "SLIMTRACK_API_THREADS", _integer(1, 256), "16", "threads of each gunicorn worker"
    )
    worker_processes: int = _setting(
        "SLIMTRACK_WORKER_PROCESSES", _integer(1, 64), "1", "processes of each worker group"
    )
    worker_threads: int = _setting(
        "SLIMTRACK_WORKER_THREADS", _integer(1, 64), "2", "threads of each worker process"
    )
    stage_delays: Mapping[Status, float] = _setting(
        "SLIMTRACK_STAGE_DELAYS", _delays, "3,5,5,6", "seconds until each stage is due"
    )
    stage_deadlines: Mapping[Status, float] = _setting(
        "SLIMTRACK_STAGE_DEADLINES",
        _delays,
        "900",
        "seconds after which a stage that was due counts as stuck",
    )
    delivery_pause: float = _setting(
        "SLIMTRACK_DELIVERY_PAUSE", _seconds, "10", "seconds until a failed delivery is repeated"
    )
    delivery_attempts: int = _setting(
        "SLIMTRACK_DELIVERY_ATTEMPTS",
        _integer(1, 100),
        "3",
        "deliveries that may fail before a parcel is returned",
    )
    stage_work: Mapping[Status, str] = _setting(
        "SLIMTRACK_STAGE_WORK", _works, "", "what is called before an order reaches a stage"
    )
    work_time_limit: float = _setting(
        "SLIMTRACK_WORK_TIME_LIMIT", _time_limit, "10", "seconds that a call of it may take"
    )
    set_size: int = _setting(
        "SLIMTRACK_SET_SIZE", _integer(1, 1000), "100", "outbox rows in one message, at most"
    )
    stage_bound: int = _setting(
        "SLIMTRACK_STAGE_BOUND",
        _integer(1, 100_000),
        "2000",
        "published, unfinished outbox rows per stage, at most",
    )
    max_retries: int = _setting(
        "SLIMTRACK_MAX_RETRIES", _integer(0, 1000), "4", "retries before a row is a dead letter"
    )
    min_backoff: float = _setting(
        "SLIMTRACK_MIN_BACKOFF", _seconds, "1", "seconds before the first retry"
    )
    max_backoff: float = _setting(
        "SLIMTRACK_MAX_BACKOFF", _seconds, "300", "seconds between two retries, at most"
    )
    log_format: str = _setting(
        "SLIMTRACK_LOG_FORMAT",
        _choice("auto", "json", "console"),
        "auto",
        "json, console, or console on a terminal and json elsewhere",
    )
    log_level: str = _setting(
        "SLIMTRACK_LOG_LEVEL",
        _choice("debug", "info", "warning", "error"),
        "info",
        "least severe level that is logged",
    )

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> "Settings":
        """Read every setting; an empty variable counts as not set.

        Raises:
            SettingsError: one or more are missing or wrong; all of them are named, no value is.
        """
        values: dict[str, Any] = {}
        faults: list[str] = []
        for each in fields(cls):
            name, default = each.metadata["name"], each.metadata["default"]
            text = environment.get(name) or default
            if text is None:
                faults.append(f"{name} is not set: {each.metadata['what']}.")
                continue
            try:
                values[each.name] = each.metadata["read"](text)
            except ValueError as error:
                faults.append(f"{name} {error}.")
        if not values.get("authentication", True) and not _is_loopback(values.get("api_bind", "")):
            faults.append(
                "SLIMTRACK_AUTH may only be off where nobody else can ask: "
                "SLIMTRACK_API_BIND has to be an address like 127.0.0.1:8080."
            )
        if faults:
            raise SettingsError(faults)
        return cls(**values)


def settings_in(environment: Mapping[str, str]) -> dict[str, str]:
    """Return those variables of an environment that are settings."""
    names = (each.metadata["name"] for each in fields(Settings))
    return {name: environment[name] for name in names if environment.get(name)}


def _is_loopback(bind: str) -> bool:
    host = bind.rpartition(":")[0].strip("[]")
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
