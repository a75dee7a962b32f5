"""docker-compose.yml, run as it is written, only without containers; the units of systemd."""

import json
import os
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
from compose import ROOT, Uncontained, read_compose, read_env
from observing import wait_until
from psycopg import sql

from slimtrack.stack.directory import free_ports

DATABASE = "test_deployment"
#: Their processes use these roles, and none the superuser.
ROLES = {"slimtrack_api", "slimtrack_publisher", "slimtrack_worker"}
PROCESSES = (
    *("api", "publisher", "worker-processing", "worker-in_transit"),
    *("worker-out_for_delivery", "worker-delivered"),
)


@pytest.fixture
def empty_database(servers: Mapping[str, str]) -> Iterator[str]:
    """A database as the image of PostgreSQL makes it: nothing is migrated."""
    name = sql.Identifier(DATABASE)
    with psycopg.connect(servers["DATABASE_URL"], autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(name))
        yield DATABASE
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))


@pytest.fixture
def variables(servers: Mapping[str, str], amqp_url: str, tmp_path: Path) -> dict[str, str]:
    """What scripts/env writes, with the passwords that the servers here have already."""
    file = tmp_path / "env"
    subprocess.run([ROOT / "scripts/env", file], check=True)
    return {
        **read_env(file),
        "POSTGRES_PASSWORD": urlsplit(servers["DATABASE_URL"]).password or "",
        "RABBITMQ_PASSWORD": urlsplit(amqp_url).password or "",
        "REDIS_PASSWORD": urlsplit(servers["REDIS_URL"]).password or "",
        "SLIMTRACK_METRICS_BIND": "",  # containers have a port 9464 each
        "SLIMTRACK_STAGE_DELAYS": "0",
    }


@pytest.fixture
def bind() -> str:
    """Where the API listens."""
    return f"127.0.0.1:{free_ports(1)[0]}"


@pytest.fixture
def places(
    servers: Mapping[str, str], amqp_url: str, empty_database: str, bind: str, tmp_path: Path
) -> dict[str, str]:
    """What stands in the file, and what is in its place on this machine."""
    return {
        "@postgresql:5432/slimtrack": f"{place_of(servers['DATABASE_URL'])}/{empty_database}",
        "@rabbitmq:5672": place_of(amqp_url),
        "@redis:6379": place_of(servers["REDIS_URL"]),
        "0.0.0.0:8080": bind,
        "127.0.0.1:8080": bind,
        "/examples": str(ROOT / "examples"),
        "/tmp/": f"{tmp_path}/",  # noqa: S108 - the containers'
    }


@pytest.fixture
def services(
    places: dict[str, str], variables: dict[str, str], tmp_path: Path
) -> Iterator[dict[str, Uncontained]]:
    """The services that run our image; nothing of them is left at the end."""
    directory = tmp_path / "srv"
    directory.mkdir()
    with ExitStack() as stack:
        ours = {
            name: Uncontained(name, service, places=places, directory=directory)
            for name, service in read_compose(variables)["services"].items()
            if service["image"] == "slimtrack"
        }
        for service in ours.values():
            stack.callback(service.kill)
        yield ours


def place_of(url: str) -> str:
    parts = urlsplit(url)
    return f"@{parts.hostname}:{parts.port}"


def ask(url: str, key: str, body: Mapping[str, Any] | None = None) -> Any:
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    content = json.dumps(body).encode() if body else None
    with urllib.request.urlopen(urllib.request.Request(url, content, headers)) as answer:
        return json.load(answer)


def users_of(database: str, servers: Mapping[str, str]) -> set[str]:
    with psycopg.connect(servers["DATABASE_URL"]) as connection:
        found = connection.execute(
            "SELECT DISTINCT usename FROM pg_stat_activity WHERE datname = %s", [database]
        ).fetchall()
    return {name for (name,) in found}


def test_the_compose_file_delivers_an_order_and_stops(
    services: dict[str, Uncontained],
    servers: Mapping[str, str],
    empty_database: str,
    bind: str,
) -> None:
    processes = [services[name] for name in PROCESSES]
    assert not any(each.is_healthy() for each in processes), "healthy before it runs"

    assert "slimtrack_worker" in services["migrate"].run()
    for process in processes:
        process.start()
    for process in processes:
        wait_until(process.is_healthy)
    assert users_of(empty_database, servers) == ROLES

    key = services["operator"].attempt("keys", "create", "shop").stdout.strip()
    placed = ask(f"http://{bind}/api/orders", key, {"description": "Two boxes"})
    url = f"http://{bind}/api/orders/{placed['id']}"
    wait_until(lambda: ask(url, key)["status"] == "delivered")
    assert [each["sequence"] for each in ask(f"{url}/events", key)["events"]] == [1, 2, 3, 4, 5]

    for process in processes:
        process.ask_to_stop()
    assert {each.name: each.wait_for_end() for each in processes} == dict.fromkeys(PROCESSES, 0)
    assert users_of(empty_database, servers) == set()
    # As at the next start: it is there already, and the passwords are the same.
    assert "up to date" in services["migrate"].run()


def test_a_process_that_stands_still_is_not_healthy(services: dict[str, Uncontained]) -> None:
    services["migrate"].run()
    for name in ("publisher", "worker-delivered"):
        process = services[name]
        process.start()
        wait_until(process.is_healthy)
        process.signal(signal.SIGSTOP)
        process.let_pass(seconds=60)
        assert not process.is_healthy()
        process.signal(signal.SIGCONT)
        wait_until(process.is_healthy)


def test_the_demo_places_its_orders_once(services: dict[str, Uncontained]) -> None:
    services["migrate"].run()
    first, second = services["demo"].run("--json"), services["demo"].run("--json")
    assert json.loads(first)["placed"] == 1000
    assert json.loads(second) == {**json.loads(first), "placed": 0, "already_there": 1000}


def test_who_may_make_no_roles_lets_nobody_in(services: dict[str, Uncontained]) -> None:
    services["migrate"].run()
    done = services["operator"].attempt("migrate", SLIMTRACK_API_PASSWORD="guessed")  # noqa: S106 - wrong
    assert done.returncode == 1
    assert "slimtrack_api cannot be let in" in done.stderr
    assert "guessed" not in done.stderr
    assert "Traceback" not in done.stderr


def test_compose_reads_the_file_as_it_is_read_here(variables: dict[str, str]) -> None:
    compose = ["docker", "compose", "--file", str(ROOT / "docker-compose.yml")]
    environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", **variables}

    def ask_compose(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*compose, *arguments], env=environment, capture_output=True, text=True, check=False
        )

    if not shutil.which("docker") or ask_compose("version").returncode:
        pytest.skip(
            "docker compose is not here: scripts/check holds the file to the schema of Compose, and"
            " the test above ran its commands without it"
        )
    said = ask_compose("--profile", "*", "config", "--format", "json")
    assert said.returncode == 0, said.stderr
    theirs = json.loads(said.stdout.replace("$$", "$"))["services"]
    ours = read_compose(variables)["services"]
    assert theirs.keys() == ours.keys()
    for name, service in ours.items():
        for key in ("image", "environment", "command", "stop_signal", "restart", "read_only"):
            assert theirs[name].get(key) == service.get(key), (name, key)
        assert theirs[name]["healthcheck"].get("test") == service["healthcheck"].get("test"), name


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """The units, for a program that is on this machine."""
    folder = tmp_path / "units"
    shutil.copytree(ROOT / "deploy/systemd", folder)
    program = str(Path(sys.executable).with_name("slimtrack"))
    for unit in folder.glob("*.service"):
        text = unit.read_text()
        assert "ExecStart=/opt/slimtrack/bin/slimtrack " in text
        unit.write_text(text.replace("/opt/slimtrack/bin/slimtrack", program))
    return folder


def complaints(units: Path) -> list[str]:
    """What systemd finds wrong with them; other units of this machine do not count."""
    files = [each for each in sorted(units.iterdir()) if each.is_file()]
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *files],  # noqa: S607 - wherever it is
        capture_output=True,
        text=True,
        check=False,
    )
    return [line for line in done.stderr.splitlines() if "slimtrack" in line]


@pytest.mark.skipif(
    not shutil.which("systemd-analyze"),
    reason="systemd-analyze comes with systemd, which this machine does not run",
)
def test_systemd_finds_nothing_wrong_with_the_units(units: Path) -> None:
    assert complaints(units) == []
    # It has read the worker's template, and what all have in common.
    for name in ("slimtrack-worker@.service", "slimtrack-.service.d/common.conf"):
        with (units / name).open("a") as unit:
            unit.write("\n[Service]\nNoSuchSetting=yes\n")
    found = complaints(units)
    assert any("worker@" in line for line in found), found
    assert any("common.conf" in line for line in found), found
