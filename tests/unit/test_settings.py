"""The environment as a configuration, and what is said about a wrong one."""

import re
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest

from slimtrack.domain.errors import SettingsError
from slimtrack.domain.order import JOURNEY
from slimtrack.settings import Settings, declared_settings, settings_in, unknown_in

NO_URL = "must be a URL like postgresql://user:password@host:port/name."
NAME = re.compile(r"SLIMTRACK_[A-Z_]+")

SERVERS = {
    "DATABASE_URL": "postgresql://slimtrack:hush@db.example:5432/slimtrack",
    "AMQP_URL": "amqp://slimtrack:hush@mq.example:5672/",
    "REDIS_URL": "redis://:hush@cache.example:6379/0",
}

WRONG = {
    "SLIMTRACK_AUTH": ("no", "ON", "0"),
    "FORWARDED_ALLOW_IPS": ("proxy", "10.0.0.1/8", "10.0.0.1,", "10.0.0.1 10.0.0.2", "*,proxy"),
    "SLIMTRACK_DASHBOARD": ("no", "ON", "0"),
    "SLIMTRACK_TRACKING_PAGE": ("no", "ON", "0"),
    "SLIMTRACK_REQUEST_TIME_LIMIT": ("0", "601", "inf"),
    "SLIMTRACK_RATE_LIMIT": ("-1", "many", "1000000001"),
    "SLIMTRACK_IDEMPOTENCY_LIFETIME": ("0", "59", "-1", "a day"),
    "SLIMTRACK_EVENTS": ("yes", "1"),
    "SLIMTRACK_SIMULATION": ("yes", "1"),
    "SLIMTRACK_DELIVERY_PAUSE": ("-1", "soon"),
    "SLIMTRACK_DELIVERY_ATTEMPTS": ("0", "101", "three"),
    "DATABASE_URL": ["db.example", "mysql://u:hush@db.example/x", "postgresql:///x"],
    "AMQP_URL": ["http://mq.example", "amqp://"],
    "REDIS_URL": ["cache.example:6379", "amqp://cache.example"],
    "SLIMTRACK_API_BIND": ["8080", ":8080", "0.0.0.0:", "0.0.0.0:0", "0.0.0.0:65536", "a:٨"],
    "SLIMTRACK_API_WORKERS": ["0", "65", "-1", "two", "1.5", "٢"],
    "SLIMTRACK_API_THREADS": ["0", "257"],
    "SLIMTRACK_WORKER_PROCESSES": ["0", "65"],
    "SLIMTRACK_WORKER_THREADS": ["0", "65"],
    "SLIMTRACK_STAGE_DELAYS": ["1,2", "1,2,3,4,5", "soon", "-1", "1,,2,3", "nan", "1,2,3,inf"],
    "SLIMTRACK_STAGE_DEADLINES": ["1,2", "soon"],
    "SLIMTRACK_STAGE_WORK": [
        *("book", "in_transit=", "in_transit=shop", "in_transit=shop:", "in_transit=sh op:book"),
        *("received=shop:book", "in_transit=shop:book,", "in_transit=a:b,in_transit=a:b"),
    ],
    "SLIMTRACK_WORK_TIME_LIMIT": ["0", "601", "nan", "soon"],
    "SLIMTRACK_SET_SIZE": ["0", "1001"],
    "SLIMTRACK_STAGE_BOUND": ["0", "100001"],
    "SLIMTRACK_MAX_RETRIES": ["-1", "1001"],
    "SLIMTRACK_MIN_BACKOFF": ["-0.1", "nan", "31536001"],
    "SLIMTRACK_MAX_BACKOFF": ["-0.1", "inf", "a while"],
    "SLIMTRACK_METRICS_BIND": ["9464", ":9464", "127.0.0.1:0", "127.0.0.1:8080"],
    "SLIMTRACK_LOG_FORMAT": ["xml", "JSON"],
    "SLIMTRACK_LOG_LEVEL": ["trace"],
    "SENTRY_DSN": [
        *("on", "https://hush@sentry.example", "https://hush@sentry.example/shop"),
        *("https://sentry.example/1", "ftp://hush@sentry.example/1", "https://hush@[::1/1"),
        *("https://hush@/1", "https://hush@sentry.example:99999/1"),
    ],
    "SLIMTRACK_ENVIRONMENT": ["my shop", "a/b", "x" * 65],
    "OTEL_EXPORTER_OTLP_ENDPOINT": ["collector:4318", "grpc://h", "http://key@h:4318", "http://"],
    "SLIMTRACK_TRACES_PER_SECOND": ["-0.1", "10001", "some", "nan"],
}


def faults_of(environment: dict[str, str]) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        Settings.from_environment(environment)
    assert str(caught.value) == "\n".join(caught.value.faults)
    return caught.value.faults


def test_three_urls_are_enough_and_the_rest_has_defaults() -> None:
    settings = Settings.from_environment(SERVERS)

    assert (settings.database_url, settings.amqp_url, settings.redis_url) == tuple(SERVERS.values())
    assert settings.api_bind == "127.0.0.1:8080"
    assert dict(settings.stage_delays) == dict(zip(JOURNEY, (3.0, 5.0, 5.0, 6.0), strict=True))
    assert (settings.set_size, settings.stage_bound) == (100, 2000)
    assert (settings.max_retries, settings.min_backoff, settings.max_backoff) == (4, 1.0, 300.0)
    assert (settings.log_format, settings.log_level) == ("auto", "info")
    assert (settings.sentry_dsn, settings.environment) == ("", "production")


@pytest.mark.parametrize(
    ("given", "networks"),
    [
        ("", ("127.0.0.1/32", "::1/128")),
        ("10.0.0.0/8, 192.0.2.7", ("10.0.0.0/8", "192.0.2.7/32")),
        ("*", ("0.0.0.0/0", "::/0")),
    ],
)
def test_proxies_are_addresses_networks_or_all(given: str, networks: tuple[str, ...]) -> None:
    settings = Settings.from_environment({**SERVERS, "FORWARDED_ALLOW_IPS": given})
    assert tuple(map(str, settings.trusted_proxies)) == networks


def test_settings_can_be_printed_without_their_passwords() -> None:
    dsn = "https://hush@sentry.example/shop/7"
    settings = Settings.from_environment({**SERVERS, "SENTRY_DSN": dsn})

    assert settings.sentry_dsn == dsn
    assert "hush" not in f"{settings!r} {settings}"


def test_settings_do_not_change() -> None:
    with pytest.raises(FrozenInstanceError):
        Settings.from_environment(SERVERS).set_size = 1  # type: ignore[misc]


def test_an_empty_variable_counts_as_not_set() -> None:
    assert Settings.from_environment({**SERVERS, "SLIMTRACK_SET_SIZE": ""}).set_size == 100
    [fault] = faults_of({**SERVERS, "AMQP_URL": ""})
    assert fault.startswith("AMQP_URL is not set: RabbitMQ, the conduit")


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in WRONG.items() for value in values]
)
def test_a_wrong_value_is_one_line_that_names_its_variable(name: str, value: str) -> None:
    [fault] = faults_of({**SERVERS, name: value})

    assert fault.startswith(f"{name} must be ")
    assert fault.endswith(".")
    assert "\n" not in fault
    assert "hush" not in fault


def test_every_setting_can_be_wrong_and_all_faults_are_told_at_once() -> None:
    names = [each.name for each in declared_settings()]
    assert set(WRONG) == set(names)

    faults = faults_of({name: values[0] for name, values in WRONG.items()})

    assert [fault.partition(" ")[0] for fault in faults] == names


@pytest.mark.parametrize("bind", ["0.0.0.0:80", "10.0.0.1:80", "[::]:80", "api.example:80"])
def test_nobody_but_this_machine_is_let_in_without_a_key(bind: str) -> None:
    [fault] = faults_of({**SERVERS, "SLIMTRACK_AUTH": "off", "SLIMTRACK_API_BIND": bind})
    assert fault.startswith("SLIMTRACK_AUTH may only be off")

    for loopback in ("127.0.0.1:80", "localhost:80", "[::1]:80"):
        Settings.from_environment(
            {**SERVERS, "SLIMTRACK_AUTH": "off", "SLIMTRACK_API_BIND": loopback}
        )


def test_missing_and_wrong_settings_are_told_together() -> None:
    faults = faults_of({"AMQP_URL": "mq", "SLIMTRACK_SET_SIZE": "0"})

    assert [fault.partition(" ")[0] for fault in faults] == [
        "DATABASE_URL",
        "AMQP_URL",
        "REDIS_URL",
        "SLIMTRACK_SET_SIZE",
    ]


@pytest.mark.parametrize(
    "url",
    [
        "postgres//slimtrack:sesame@db.example/x",
        "postgresql://slimtrack:sesame\u2100@db.example/x",  # urllib quotes it in its own error
        "postgresql://slimtrack:sesame@[::1/x",
        "postgresql://slimtrack:se#same@db.example/x",  # the host is slimtrack, the port se
        "postgresql://slimtrack:sesame@db.example/x\n",
    ],
)
def test_a_wrong_url_is_refused_without_its_password(url: str) -> None:
    [fault] = faults_of({**SERVERS, "DATABASE_URL": url})

    assert fault.startswith("DATABASE_URL must be a URL like postgresql://")
    assert "sesame" not in fault
    assert "same@" not in fault
    assert "db.example" not in fault


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://slimtrack:p%40ss@one.example:5432,two.example:5432/x",
        "postgresql://[2001:db8::1]:5432/x",
        "postgres://db.example?sslmode=verify-full",
    ],
)
def test_what_postgresql_takes_for_a_url_is_one(url: str) -> None:
    assert Settings.from_environment({**SERVERS, "DATABASE_URL": url}).database_url == url


@pytest.mark.parametrize(
    ("text", "delays"),
    [
        ("0", (0, 0, 0, 0)),
        ("2.5", (2.5, 2.5, 2.5, 2.5)),
        ("1,2,3,4", (1, 2, 3, 4)),
        (" 1, 2 ,3 , 0.5 ", (1, 2, 3, 0.5)),
        ("0,0,0,31536000", (0, 0, 0, 31_536_000)),
    ],
)
def test_delays_are_one_for_all_stages_or_one_for_each(
    text: str, delays: tuple[float, ...]
) -> None:
    settings = Settings.from_environment({**SERVERS, "SLIMTRACK_STAGE_DELAYS": text})

    assert tuple(settings.stage_delays[stage] for stage in JOURNEY) == delays


def test_work_is_named_by_its_stage_and_its_path() -> None:
    text = "in_transit=shop.carriers:book, delivered = shop.mail:Thanks.send"
    settings = Settings.from_environment({**SERVERS, "SLIMTRACK_STAGE_WORK": text})

    assert settings.stage_work == {
        "in_transit": "shop.carriers:book",
        "delivered": "shop.mail:Thanks.send",
    }
    assert Settings.from_environment(SERVERS).stage_work == {}


def test_a_secret_may_be_in_a_file(tmp_path: Path) -> None:
    environment = {}
    for name, url in SERVERS.items():
        (tmp_path / name).write_text(f"{url}\n")
        environment[f"{name}_FILE"] = str(tmp_path / name)

    assert Settings.from_environment(environment) == Settings.from_environment(SERVERS)


def test_what_is_wrong_with_files_is_told_with_all_else(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_text("mysql://slimtrack:hush@db.example/x")
    faults = faults_of(
        {
            "DATABASE_URL_FILE": str(wrong),
            "AMQP_URL": SERVERS["AMQP_URL"],
            "AMQP_URL_FILE": str(wrong),
            "REDIS_URL_FILE": str(tmp_path / "missing"),
            "SLIMTRACK_SET_SIZE": "0",
        }
    )

    assert faults == [
        f"DATABASE_URL_FILE names a file whose content {NO_URL}",
        "AMQP_URL and AMQP_URL_FILE are both set: unset one of them.",
        "REDIS_URL_FILE names a file that cannot be read: No such file or directory.",
        "SLIMTRACK_SET_SIZE must be a whole number from 1 to 1000.",
    ]


def test_only_secrets_are_read_from_files(tmp_path: Path) -> None:
    (tmp_path / "size").write_text("7")
    environment = {**SERVERS, "SLIMTRACK_SET_SIZE_FILE": str(tmp_path / "size")}

    assert Settings.from_environment(environment).set_size == 100
    assert unknown_in(environment) == {"SLIMTRACK_SET_SIZE_FILE": "SLIMTRACK_SET_SIZE"}


def test_a_secret_is_handed_on_as_the_path_of_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("url").write_text(SERVERS["DATABASE_URL"])

    handed_on = settings_in({"DATABASE_URL_FILE": "url", "SLIMTRACK_SET_SIZE": "7", "HOME": "/"})

    assert handed_on == {
        "DATABASE_URL_FILE": str(tmp_path / "url"),
        "SLIMTRACK_SET_SIZE": "7",
    }


def test_every_variable_that_the_code_names_is_known() -> None:
    files = (Path(__file__).parents[2] / "slimtrack").rglob("*.py")
    named = {name for file in files for name in NAME.findall(file.read_text())}

    assert len(named) > 20
    assert unknown_in(dict.fromkeys(named, "x")) == {}
