"""The configuration of every process: one frozen object, read from the environment once."""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from importlib.util import find_spec
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from slimtrack.domain.errors import SettingsError
from slimtrack.domain.order import JOURNEY, Status
from slimtrack.environment import Source, file_variable, find, find_unknown, variables_of

Network = IPv4Network | IPv6Network

#: A module and something in it.
_PATH: Final = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*", re.ASCII)
#: A host of a URL, perhaps with its port.
_HOST: Final = re.compile(r"(\[[^\[\]]+\]|[^\[\]:]+)(:\d*)?", re.ASCII)


def _url(*schemes: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        try:
            parts = urlsplit(text)
            hosts = parts.netloc.rpartition("@")[2].split(",")
            usable = (
                text.isprintable()  # urlsplit overlooks newlines
                and parts.scheme in schemes
                and bool(parts.hostname)
                and all(_HOST.fullmatch(host) for host in hosts)
            )
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


def _dsn(text: str) -> str:
    try:
        parts = urlsplit(text)
        project = parts.path.rpartition("/")[2]
        usable = (
            text.isprintable()  # urlsplit overlooks newlines
            and parts.scheme in {"http", "https"}
            and bool(parts.username and parts.hostname)
            and parts.port != 0
            and project.isascii()
            and project.isdecimal()
        )
    except ValueError:  # what it says quotes the key
        usable = False
    if text and not usable:
        raise ValueError("must be a URL like https://key@host/1, as Sentry shows it")
    return text


def _endpoint(text: str) -> str:
    try:
        usable = not text or ("@" not in text and bool(_url("http", "https")(text)))
    except ValueError:
        usable = False
    if not usable:
        raise ValueError(
            "must be a URL like http://host:4318; keys belong in OTEL_EXPORTER_OTLP_HEADERS"
        )
    return text


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = -1.0
    if not 0 <= rate <= 10_000:
        raise ValueError("must be a number from 0 to 10000")
    return rate


def _environment(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", text):
        raise ValueError("must be 1 to 64 letters, digits, dots, dashes and underscores")
    return text


def _networks(text: str) -> Sequence[Network]:
    if text.strip() == "*":
        text = "0.0.0.0/0,::/0"
    try:
        return tuple(ip_network(each.strip()) for each in text.split(","))
    except ValueError:
        raise ValueError(
            "must be addresses or networks like 10.0.0.0/8, separated by commas, or * for all"
        ) from None


def _optional_bind(text: str) -> str:
    return _bind(text) if text else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What is declared of a setting: its variable, reader, default as text, and what it is.

    One whose default is None has to be set. A secret is never shown, and may be in a file.
    """

    name: str
    read: Callable[[str], Any]
    default: str | None
    what: str
    secret: bool = False

    @property
    def variables(self) -> tuple[str, ...]:
        """The variables that may set it."""
        return (self.name, file_variable(self.name)) if self.secret else (self.name,)


def _setting(
    name: str, read: Callable[[str], Any], default: str | None, what: str, *, secret: bool = False
) -> Any:
    setting = Setting(name=name, read=read, default=default, what=what, secret=secret)
    return field(metadata={"setting": setting})


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)  # it would show passwords
class Settings:
    """What the environment configures; docs/configuration.md lists all of them."""

    database_url: str = _setting(
        "DATABASE_URL",
        _url("postgresql", "postgres"),
        None,
        "PostgreSQL, the truth; without it, `slimtrack up` starts one of its own",
        secret=True,
    )
    amqp_url: str = _setting(
        "AMQP_URL",
        _url("amqp", "amqps"),
        None,
        "RabbitMQ, the conduit; without it, `slimtrack up` starts one of its own",
        secret=True,
    )
    redis_url: str = _setting(
        "REDIS_URL",
        _url("redis", "rediss"),
        None,
        "Redis, the cache; without it, `slimtrack up` starts one of its own",
        secret=True,
    )
    api_bind: str = _setting(
        "SLIMTRACK_API_BIND",
        _bind,
        "127.0.0.1:8080",
        "where the API listens; without it, `slimtrack up` takes a free port if this one is taken",
    )
    api_workers: int = _setting(
        "SLIMTRACK_API_WORKERS", _integer(1, 64), "2", "gunicorn worker processes"
    )
    api_threads: int = _setting(
        "SLIMTRACK_API_THREADS", _integer(1, 256), "16", "threads of each gunicorn worker"
    )
    request_time_limit: float = _setting(
        "SLIMTRACK_REQUEST_TIME_LIMIT",
        _time_limit,
        "20",
        "seconds from a request's first byte to its answer's last, at most",
    )
    authentication: bool = _setting(
        "SLIMTRACK_AUTH",
        _switch,
        "on",
        "`off` asks for no key, and lets everybody in as the default tenant, and only callers on "
        "this machine",
    )
    rate_limit: int = _setting(
        "SLIMTRACK_RATE_LIMIT",
        _integer(0, 1_000_000_000),
        "6000",
        "requests a minute for each key; 0 for no limit",
    )
    trusted_proxies: Sequence[Network] = _setting(
        "FORWARDED_ALLOW_IPS",
        _networks,
        "127.0.0.1,::1",
        "proxies, by addresses and networks separated by commas, that are believed when they say "
        "in `X-Forwarded-For` who asks; `*` for all",
    )
    dashboard: bool = _setting(
        "SLIMTRACK_DASHBOARD", _switch, "on", "`off` serves no dashboard beside the API"
    )
    tracking_page: bool = _setting(
        "SLIMTRACK_TRACKING_PAGE",
        _switch,
        "on",
        "`off` serves no page at `/t` for those who wait for a parcel and have its tracking code",
    )
    answer_lifetime: float = _setting(
        "SLIMTRACK_IDEMPOTENCY_LIFETIME",
        _lifetime,
        "86400",
        "seconds for which an Idempotency-Key is remembered, 60 at least",
    )
    events: bool = _setting(
        "SLIMTRACK_EVENTS", _switch, "off", "`on` publishes every event for other services"
    )
    simulation: bool = _setting(
        "SLIMTRACK_SIMULATION",
        _switch,
        "off",
        "`on` lets operators place test orders and stop processes from the dashboard; on with "
        "`slimtrack up` where nobody else can ask",
    )
    worker_processes: int = _setting(
        "SLIMTRACK_WORKER_PROCESSES", _integer(1, 64), "1", "worker processes for each queue"
    )
    worker_threads: int = _setting(
        "SLIMTRACK_WORKER_THREADS", _integer(1, 64), "2", "threads of each worker process"
    )
    stage_delays: Mapping[Status, float] = _setting(
        "SLIMTRACK_STAGE_DELAYS",
        _delays,
        "3,5,5,6",
        "seconds until each stage is due; one number for all",
    )
    stage_deadlines: Mapping[Status, float] = _setting(
        "SLIMTRACK_STAGE_DEADLINES",
        _delays,
        "900",
        "seconds after which a stage that was due counts as stuck; one number for all; an event "
        "that is to be published has as long as the first",
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
        "SLIMTRACK_STAGE_WORK",
        _works,
        "",
        "what is called before an order reaches a stage, as in `in_transit=shop.carriers:book`",
    )
    work_time_limit: float = _setting(
        "SLIMTRACK_WORK_TIME_LIMIT", _time_limit, "10", "seconds that a call of such work may take"
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
    metrics_bind: str = _setting(
        "SLIMTRACK_METRICS_BIND",
        _optional_bind,
        "",
        "where a process, with all that it forks, shows its metrics, as in `127.0.0.1:9464`; "
        "`slimtrack up` gives its processes this port and those that follow",
    )
    log_format: str = _setting(
        "SLIMTRACK_LOG_FORMAT",
        _choice("auto", "json", "console"),
        "auto",
        "`json` or `console`; `auto` is console on a terminal, json elsewhere",
    )
    log_level: str = _setting(
        "SLIMTRACK_LOG_LEVEL",
        _choice("debug", "info", "warning", "error"),
        "info",
        "least severe level that is logged: `debug`, `info`, `warning` or `error`",
    )
    sentry_dsn: str = _setting(
        "SENTRY_DSN",
        _dsn,
        "",
        "where errors are reported that somebody has to look into; without it, nowhere",
        secret=True,
    )
    environment: str = _setting(
        "SLIMTRACK_ENVIRONMENT",
        _environment,
        "production",
        "what Sentry and traces call the place where this runs",
    )
    traces_endpoint: str = _setting(
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        _endpoint,
        "",
        "where traces are sent, to a collector that takes OTLP over HTTP, as in "
        "`http://127.0.0.1:4318`; without it, nowhere",
    )
    traces_per_second: float = _setting(
        "SLIMTRACK_TRACES_PER_SECOND",
        _rate,
        "5",
        "how many of the requests that are no part of a trace yet each process of the API traces "
        "in a second, at most",
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
            setting: Setting = each.metadata["setting"]
            try:
                found = find(setting.name, environment, secret=setting.secret)
            except SettingsError as error:
                faults.extend(error.faults)
                continue
            text = found.text if found else setting.default
            if text is None:
                faults.append(f"{setting.name} is not set: {setting.what}.")
                continue
            try:
                values[each.name] = setting.read(text)
            except ValueError as error:
                subject = setting.name
                if found and found.source is Source.FILE:
                    subject = f"{file_variable(subject)} names a file whose content"
                faults.append(f"{subject} {error}.")
        if not values.get("authentication", True) and not is_loopback(values.get("api_bind", "")):
            faults.append(
                "SLIMTRACK_AUTH may only be off where nobody else can ask: "
                "SLIMTRACK_API_BIND has to be an address like 127.0.0.1:8080."
            )
        if values.get("metrics_bind") and values["metrics_bind"] == values.get("api_bind"):
            faults.append("SLIMTRACK_METRICS_BIND must be another address than the API's.")
        if values.get("traces_endpoint") and not _has_traces():
            faults.append(
                "OTEL_EXPORTER_OTLP_ENDPOINT is set, and what sends traces is not installed: "
                "install SlimTrack with its extra `traces`."
            )
        if faults:
            raise SettingsError(faults)
        return cls(**values)


#: Read before there are settings: it says where those of a running stack are.
STATE_DIRECTORY: Final = Setting(
    name="SLIMTRACK_STATE_DIR",
    read=str,
    default="",
    what="where `slimtrack up` keeps data, passwords and logs, by default /var/lib/slimtrack as "
    "root, else ~/.local/state/slimtrack; two directories are two stacks",
)
#: Read by a process without the others: see `process`.
_HEARTBEAT_FILE: Final = Setting(
    name="SLIMTRACK_HEARTBEAT_FILE",
    read=str,
    default="",
    what="a file that publisher and workers touch every second, for health checks",
)
#: Read by `slimtrack migrate` alone.
_PASSWORDS: Final = tuple(
    Setting(
        name=f"SLIMTRACK_{role.upper()}_PASSWORD",
        read=str,
        default="",
        what=f"with which `slimtrack migrate` lets the database's role slimtrack_{role} log in",
        secret=True,
    )
    for role in ("owner", "api", "publisher", "worker", "readonly")
)
#: What only tests set: see `faults`.
_FAULTS: Final = ("SLIMTRACK_FAULT", "SLIMTRACK_FAULT_DIR")


def declared_settings() -> list[Setting]:
    """Return every setting, as it is declared."""
    return [each.metadata["setting"] for each in fields(Settings)]


def special_settings() -> list[Setting]:
    """Return those that are not among the others, since they are read by somebody else."""
    return [STATE_DIRECTORY, _HEARTBEAT_FILE, *_PASSWORDS]


def settings_in(environment: Mapping[str, str]) -> dict[str, str]:
    """Return those variables of an environment that are settings; a secret stays in its file."""
    settings: dict[str, str] = {}
    for each in declared_settings():
        settings |= variables_of(each.name, environment, secret=each.secret)
    return settings


def state_directory(environment: Mapping[str, str] = os.environ) -> Path | None:
    """Return where a stack's state is said to be; each process of a stack is told so by it."""
    given = environment.get(STATE_DIRECTORY.name)
    return Path(given).expanduser().absolute() if given else None


def unknown_in(environment: Mapping[str, str]) -> dict[str, str | None]:
    """Return the variables that look like settings and are none, and the setting most like each.

    They are no faults: an older version has to start with the variables of a newer one.
    """
    known = [name for each in declared_settings() + special_settings() for name in each.variables]
    return find_unknown(environment, known=[*known, *_FAULTS])


def _has_traces() -> bool:
    try:
        return bool(find_spec("opentelemetry.exporter.otlp.proto.http"))
    except ModuleNotFoundError:
        return False


def is_loopback(bind: str) -> bool:
    """Tell whether only callers on this machine reach an address that a server listens on."""
    host = bind.rpartition(":")[0].strip("[]")
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
