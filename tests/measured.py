"""Processes that show their metrics, and their pages."""

import http.client
import json
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

from observing import wait_until
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from slimtrack.stack.directory import free_ports
from slimtrack.stack.processes import plan_api, plan_publisher, plan_workers, with_metrics
from slimtrack.stack.service import Service
from slimtrack.stack.supervisor import Supervisor

ORDERS = "/api/orders"


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """Processes that run, and where they and their metrics are."""

    supervisor: Supervisor
    api: str
    pages: Mapping[str, str]

    def post(self, path: str, body: object) -> int:
        connection = http.client.HTTPConnection(urlsplit(self.api).netloc, timeout=30)
        try:
            connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
            return connection.getresponse().status
        finally:
            connection.close()

    def place(self, **fields: str) -> None:
        assert self.post(ORDERS, {"description": "A parcel", **fields}) == 201

    def total(self, name: str, **labels: str) -> float:
        """Sum a series over all pages."""
        return sum(
            sample.value
            for url in self.pages.values()
            for family in scrape(url)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def pid(self, name: str) -> int:
        pid = next(each.pid for each in self.supervisor.states if each.name == name)
        assert pid
        return pid


def scrape(url: str) -> list[Metric]:
    with urllib.request.urlopen(url, timeout=10) as answer:
        assert answer.headers["Content-Type"].startswith("text/plain")
        return list(text_string_to_metric_families(answer.read().decode()))


@contextmanager
def running(environment: Mapping[str, str], *names: str, **more: str) -> Iterator[System]:
    """Run those of the processes that have such names, with more settings."""
    settings = {**environment, **more}
    api_port, port = free_ports(2)
    api_bind = f"127.0.0.1:{api_port}"
    planned: list[Service] = [
        plan_publisher(settings),
        *plan_workers(settings),
        plan_api(settings, bind=api_bind),
    ]
    services = with_metrics(
        [each for each in planned if each.name.startswith(names)],
        bind=f"127.0.0.1:{port}",
        api_bind=api_bind,
    )
    supervisor = Supervisor(on_line=print)
    try:
        supervisor.start(services)
        pages = {each.name: each.metrics for each in services}
        for url in pages.values():
            wait_until(lambda url=url: answers(url))  # type: ignore[misc] # it is bound here
        yield System(supervisor=supervisor, api=f"http://{api_bind}", pages=pages)
    finally:
        supervisor.stop()


def answers(url: str) -> bool:
    try:
        return bool(scrape(url))
    except OSError:
        return False
