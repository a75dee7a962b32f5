"""The alerts, the dashboard and the runbook speak of what there is, and of each other."""

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql
import pytest
import typer
import yaml
from prometheus_client import Counter, Gauge, Histogram

from slimtrack.__main__ import app
from slimtrack.domain.order import STAGES, Status
from slimtrack.domain.published import FAN_OUT
from slimtrack.routing import BY_QUEUE
from slimtrack.telemetry import metrics

ROOT = Path(__file__).parents[2]
RULES = ROOT / "deploy/prometheus/rules.yml"
RUNBOOK = ROOT / "docs/runbook.md"
DASHBOARD = ROOT / "deploy/grafana/dashboards/slimtrack.json"
#: What Prometheus adds to everything that it scrapes, and what it says itself.
TARGET = {"job", "instance", "process"}
OF_PROMETHEUS = {"up": TARGET, "ALERTS": {"alertname", "alertstate", "severity"}}
#: What labels may say, where it is known beforehand.
VALUES = {
    "stage": {*STAGES, FAN_OUT},
    "queue": set(BY_QUEUE),
    "queue_name": set(BY_QUEUE),
    "source": {"outbox", "queues", "stranded", "stuck"},
    "pool": {f"slimtrack {each}" for each in ("api", "publisher", "worker")},
}


def read_rules() -> list[dict[str, Any]]:
    [group] = yaml.safe_load(RULES.read_text())["groups"]
    rules: list[dict[str, Any]] = group["rules"]
    return rules


def read_panels() -> list[dict[str, Any]]:
    panels: list[dict[str, Any]] = json.loads(DASHBOARD.read_text())["panels"]
    return panels


def expressions() -> Iterator[str]:
    for rule in read_rules():
        yield rule["expr"]
    for panel in read_panels():
        for target in panel["targets"]:
            yield target["expr"]
    for annotation in json.loads(DASHBOARD.read_text())["annotations"]["list"]:
        yield annotation["expr"]


def series() -> dict[str, set[str]]:
    """Every series that a page may have, and its labels."""
    found = dict(OF_PROMETHEUS)
    for each in vars(metrics).values():
        if not isinstance(each, Counter | Gauge | Histogram):
            continue
        [described] = each.describe()
        labels = {*each._labelnames, *TARGET}  # noqa: SLF001 - no other way
        if described.type == "histogram":
            found[f"{described.name}_bucket"] = labels | {"le"}
            found[f"{described.name}_count"] = found[f"{described.name}_sum"] = labels
        else:
            found[described.name + ("_total" if described.type == "counter" else "")] = labels
    return found


def test_alerts_and_dashboard_name_metrics_and_labels_that_exist() -> None:
    known = series()
    used = set()
    for expression in expressions():
        names = promql.names_in(expression)
        allowed: set[str] = set()
        for metric, matchers in names.metrics:
            assert metric in known, expression
            assert matchers.keys() <= known[metric], expression
            for label in matchers.keys() & VALUES.keys():
                assert matchers[label] in VALUES[label], expression
            allowed |= known[metric]
            used.add(metric)
        assert names.grouped <= allowed, expression
    assert len(used) > 20


def test_the_reader_of_expressions_takes_nothing_that_it_does_not_know() -> None:
    names = promql.names_in(
        'sum by (le) (rate(a_bucket{b="c", d!~"e.*"}[5m])) / 2 > max(f offset 1h)'
    )
    assert names == promql.Names([("a_bucket", {"b": "c", "d": "e.*"}), ("f", {})], {"le"})
    for unknown in ("a @ b", "quantile(a)", "sum", '{a="b"}', "sum by (a", "a{b='c'}"):
        with pytest.raises(promql.UnreadableError):
            promql.names_in(unknown)


def test_every_queue_has_an_alert_for_the_case_that_nobody_reads_it() -> None:
    [rule] = [each for each in read_rules() if each["alert"] == "SlimTrackWorkerAway"]
    queues = [matchers["queue_name"] for _, matchers in promql.names_in(rule["expr"]).metrics]
    assert sorted(queues) == sorted(BY_QUEUE)
    assert len(BY_QUEUE) == len(STAGES)
    assert Status.RECEIVED not in STAGES


def test_every_alert_says_how_urgent_it_is_and_where_to_read_on() -> None:
    sections = re.findall(r"^## (SlimTrack\w+)$", RUNBOOK.read_text(), re.MULTILINE)
    rules = read_rules()
    assert [each["alert"] for each in rules] == sections
    for rule in rules:
        assert rule["labels"] in ({"severity": "page"}, {"severity": "ticket"})
        assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}
        assert rule["annotations"]["runbook_url"] == f"docs/runbook.md#{rule['alert'].lower()}"
        for label in re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]):
            names = promql.names_in(rule["expr"])
            of_metrics = {each for _, matchers in names.metrics for each in matchers}
            assert label in names.grouped | of_metrics | TARGET, rule["alert"]


def test_every_alert_is_tried_by_promtool() -> None:
    tried = (RULES.with_name("rules.test.yml")).read_text()
    for rule in read_rules():
        assert f'alertname="{rule["alert"]}"' in tried


def commands_in(text: str) -> Iterator[str]:
    """The commands that a text shows on lines of their own, or in the middle of a line."""
    blocks = re.split(r"^```$", text, flags=re.MULTILINE)
    for number, block in enumerate(blocks):
        if number % 2:
            yield from re.findall(r"^slimtrack .+$", block, re.MULTILINE)
        else:
            yield from re.findall(r"`(slimtrack [^`…]+)`", block)
            for command in re.findall(r"`docker compose run --rm operator ([^`]+)`", block):
                yield f"slimtrack {command}"


def read_command(shown: str, *, is_whole: bool) -> None:
    """Read a command as the program would; raises where it is none."""
    _, *words = shlex.split(shown)
    command = typer.main.get_command(app)
    while words and (subcommands := getattr(command, "commands", None)):
        command = subcommands[words.pop(0)]
    if words or is_whole:
        command.make_context("slimtrack", words)


def test_every_command_in_the_runbook_exists_with_its_options() -> None:
    text = RUNBOOK.read_text()
    commands = list(commands_in(text))
    assert len(commands) > 25
    for shown in commands:
        # In the middle of a sentence a command may stand without what it needs.
        read_command(shown, is_whole=f"\n{shown}\n" in text)


def test_nothing_is_called_a_command_that_is_none() -> None:
    for shown in ("stuck --no-such-option", "stuck --limit none", "dead-letters bury", "discard"):
        with pytest.raises(Exception, match=r"No such option|valid integer|^'(bury|discard)'$"):
            read_command(f"slimtrack {shown}", is_whole=True)


def anchors_of(file: Path) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", file.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def test_links_of_the_runbook_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)]+)\)", RUNBOOK.read_text())
    assert len(links) > 20
    for link in links:
        path, _, anchor = link.partition("#")
        file = RUNBOOK.parent / path if path else RUNBOOK
        assert file.exists(), link
        assert not anchor or anchor in anchors_of(file), link


def test_the_dashboard_is_one_that_grafana_takes() -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    assert dashboard["uid"] == "slimtrack"
    assert dashboard["schemaVersion"] >= 41
    [variable] = dashboard["templating"]["list"]
    assert (variable["type"], variable["name"]) == ("datasource", "datasource")
    panels = read_panels()
    assert len({each["id"] for each in panels}) == len(panels) > 15
    assert len({each["title"] for each in panels}) == len(panels)
    places: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        covered = {
            (place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])
        }
        assert max(x for x, _ in covered) < 24
        assert not places & covered, panel["title"]
        places |= covered
        for each in (panel, *panel["targets"]):
            assert each["datasource"] == {"type": "prometheus", "uid": "${datasource}"}


def test_grafana_finds_its_datasource_and_its_dashboard() -> None:
    folder = ROOT / "deploy/grafana/provisioning"
    [source] = yaml.safe_load((folder / "datasources/prometheus.yml").read_text())["datasources"]
    [provider] = yaml.safe_load((folder / "dashboards/slimtrack.yml").read_text())["providers"]
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    assert source["url"] == "http://prometheus:9090"
    volumes = compose["grafana"]["volumes"]
    assert f"./deploy/grafana/dashboards:{provider['options']['path']}:ro" in volumes
    assert "./deploy/grafana/provisioning:/etc/grafana/provisioning:ro" in volumes
