"""What the files for others to deploy say, and that they agree with the code."""

import re
import stat
import subprocess
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from compose import ROOT, MissingVariableError, read_compose, read_entrypoint, read_env, seconds

from slimtrack.routing import BY_QUEUE
from slimtrack.settings import declared_settings
from slimtrack.stack.processes import plan_workers

SCRIPT = ROOT / "scripts/env"
#: Services that end by themselves.
ONCE = {"migrate", "operator", "demo"}
SERVERS = {"postgresql", "rabbitmq", "redis"}
#: Those of the profile that watches.
OBSERVERS = {"prometheus", "grafana", "traces"}
#: What no variable sets: where to listen, and that callers need a key.
FIXED = {"SLIMTRACK_API_BIND", "SLIMTRACK_AUTH"}


@pytest.fixture
def passwords(tmp_path: Path) -> dict[str, str]:
    subprocess.run([SCRIPT, tmp_path / "env"], check=True)
    return read_env(tmp_path / "env")


@pytest.fixture
def services(passwords: dict[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = read_compose(passwords)["services"]
    return found


def test_passwords_are_new_and_nobody_elses(tmp_path: Path, passwords: dict[str, str]) -> None:
    other = tmp_path / "other"
    subprocess.run([SCRIPT, other], check=True)

    assert stat.S_IMODE(other.stat().st_mode) == 0o600
    assert len(passwords) == 11
    assert len({*passwords.values(), *read_env(other).values()}) == 22
    assert all(re.fullmatch("[0-9a-f]{48}", each) for each in passwords.values())


def test_passwords_are_never_written_over(tmp_path: Path, passwords: dict[str, str]) -> None:
    again = subprocess.run([SCRIPT, tmp_path / "env"], capture_output=True, text=True, check=False)
    assert again.returncode == 1
    assert "stays as it is" in again.stderr
    assert read_env(tmp_path / "env") == passwords


def test_a_password_that_a_file_of_before_lacks_is_added(
    tmp_path: Path, passwords: dict[str, str]
) -> None:
    file = tmp_path / "env"
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(line for line in lines if not line.startswith("GRAFANA_PASSWORD=")))

    added = subprocess.run([SCRIPT, file], capture_output=True, text=True, check=True)

    assert added.stdout == f"Added to {file}: GRAFANA_PASSWORD.\n"
    found = read_env(file)
    assert re.fullmatch("[0-9a-f]{48}", found.pop("GRAFANA_PASSWORD"))
    assert found.items() < passwords.items()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_no_password_has_a_default(passwords: dict[str, str]) -> None:
    for name in passwords:
        for value in (None, ""):
            variables = {**passwords, name: value}
            given = {key: each for key, each in variables.items() if each is not None}
            with pytest.raises(MissingVariableError, match=f"^{name}: run scripts/env first$"):
                read_compose(given)


def test_every_password_is_one_of_those_that_were_made(
    services: dict[str, Any], passwords: dict[str, str]
) -> None:
    found = set()
    for service in services.values():
        for name, value in service.get("environment", {}).items():
            if name.endswith(("PASSWORD", "PASS", "AUTH", "TOKEN", "APIKEY")):
                found.add(value)
            if "://" in value:
                found.add(urlsplit(value).password)
    assert found == set(passwords.values())


def test_nothing_but_the_api_is_published_beyond_this_machine(services: dict[str, Any]) -> None:
    published = [
        (name, port) for name, service in services.items() for port in service.get("ports", ())
    ]
    assert len(published) == 8
    assert {
        name for name, port in published if not ip_address(port.rsplit(":", 2)[0]).is_loopback
    } == {"api"}
    assert not any("network_mode" in service for service in services.values())


def test_what_runs_long_is_watched_restarted_limited_and_stopped(services: dict[str, Any]) -> None:
    for name in services.keys() - ONCE:
        service = services[name]
        # The image of `traces` has nothing that could ask.
        assert service["healthcheck"].get("test") or name == "traces", name
        assert service["restart"] == "unless-stopped", name
        if name not in SERVERS | OBSERVERS:
            assert service["stop_signal"] == "SIGTERM", name
            assert seconds(service["stop_grace_period"]) >= 20, name
    for name, service in services.items():
        limits = service["deploy"]["resources"]["limits"]
        assert limits.keys() == {"cpus", "memory", "pids"}, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["logging"] == {"driver": "local"}, name
        if name not in {"postgresql", "rabbitmq"}:
            assert service["read_only"], name
            assert "cap_add" not in service, name


def test_processes_start_after_the_servers_and_the_migrations(services: dict[str, Any]) -> None:
    for name in services.keys() - ONCE - SERVERS - OBSERVERS:
        assert services[name]["depends_on"] == {
            **{server: {"condition": "service_healthy"} for server in SERVERS},
            "migrate": {"condition": "service_completed_successfully"},
        }


def test_every_queue_has_the_worker_that_it_has_on_one_machine(services: dict[str, Any]) -> None:
    url = "postgresql://u:p@h/d"
    planned = {
        each.name: list(each.command[each.command.index("--queues") + 1 :])
        for each in plan_workers(
            {"DATABASE_URL": url, "AMQP_URL": "amqp://h", "REDIS_URL": "redis://h"}
        )
    }
    composed = {
        name: [each for each in service["command"][1:] if each != "--queues"]
        for name, service in services.items()
        if service.get("command", [""])[0] == "worker"
    }
    assert composed == planned
    assert sorted(queue for queues in composed.values() for queue in queues) == sorted(BY_QUEUE)


def test_what_watches_is_there_only_for_those_who_want_it(services: dict[str, Any]) -> None:
    for name in OBSERVERS:
        assert services[name]["profiles"] == ["observability"], name
        assert re.search(r":v?\d+\.\d+", services[name]["image"]), name


def test_prometheus_looks_at_the_page_of_every_process(services: dict[str, Any]) -> None:
    config = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
    [job] = config["scrape_configs"]
    [found] = job["dns_sd_configs"]
    processes = services.keys() - ONCE - SERVERS - OBSERVERS
    assert sorted(found["names"]) == sorted(processes)
    for name in processes:
        assert services[name]["environment"]["SLIMTRACK_METRICS_BIND"] == f"0.0.0.0:{found['port']}"


def test_traces_go_nowhere_unless_they_are_wanted(passwords: dict[str, str]) -> None:
    names = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_HEADERS")
    wanted = {name: f"as {name} says" for name in names}
    for more in ({}, wanted):
        services = read_compose({**passwords, **more})["services"]
        for name in services.keys() - SERVERS - OBSERVERS:
            environment = services[name]["environment"]
            assert [environment[each] for each in names] == [more.get(each, "") for each in names]


def test_every_setting_reaches_every_process(passwords: dict[str, str]) -> None:
    names = {each.name for each in declared_settings()} - FIXED
    urls = {name for name in names if name.endswith("_URL")}
    wanted = {name: f"as {name} says" for name in names - urls}
    for name, service in read_compose({**passwords, **wanted})["services"].items():
        if name not in SERVERS | OBSERVERS:
            environment = service["environment"]
            assert wanted.items() <= environment.items(), name
            assert urls <= environment.keys(), name
            assert "SLIMTRACK_AUTH" not in environment, name


def test_services_can_be_scaled(passwords: dict[str, str]) -> None:
    services = read_compose({**passwords, "API_PORTS": "8080-8083"})["services"]
    assert not any("container_name" in service for service in services.values())
    for name in services.keys() - SERVERS - OBSERVERS:
        assert services[name].get("ports", []) == (
            ["0.0.0.0:8080-8083:8080"] if name == "api" else []
        )


def test_the_image_runs_commands_as_nobody_in_particular() -> None:
    build, final = (ROOT / "Dockerfile").read_text().split("\nFROM ")[-2:]
    assert "uv sync --frozen --no-dev" in build
    for stage in (build, final):
        assert re.search(r"^(FROM )?python:3\.11-slim\b", stage, re.MULTILINE)
    [user] = re.findall(r"^USER (\d+):(\d+)$", final, re.MULTILINE)
    assert "0" not in user
    assert not re.search(r"apt-get|gcc|pip |uv ", final)
    # What they import is compiled while the image is made: they may not write it down.
    assert "UV_COMPILE_BYTECODE=1" in build
    assert re.search(r"^RUN python -m compileall ", final.partition("\nUSER ")[0], re.MULTILINE)
    assert re.search(r"^HEALTHCHECK .*\\\n    CMD \[", final, re.MULTILINE)
    assert read_entrypoint() == ["slimtrack"]


def test_the_image_is_made_by_the_uv_that_made_the_lock_file() -> None:
    [wanted] = re.findall(r"^uv_version=(\S+)", (ROOT / "scripts/setup").read_text(), re.MULTILINE)
    assert f"uv=={wanted}\n" in (ROOT / "Dockerfile").read_text()


def test_units_restart_what_dies_and_signal_masters_only() -> None:
    units = {each.name: each.read_text() for each in (ROOT / "deploy/systemd").glob("*.service")}
    migrate = units.pop("slimtrack-migrate.service")
    assert "Type=oneshot" in migrate
    assert units.keys() == {
        "slimtrack-api.service",
        "slimtrack-publisher.service",
        "slimtrack-worker@.service",
    }
    for name, text in units.items():
        assert "\nRestart=always\n" in text, name
        assert "\nKillMode=mixed\n" in text, name
        assert "\nTimeoutStopSec=" in text, name
