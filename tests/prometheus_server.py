"""A real Prometheus with our rules; Debian's package has the programs."""

import fcntl
import os
import re
import shutil
import subprocess
import tempfile
import urllib.request
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

import msgspec
import pytest
import yaml
from observing import wait_until

from slimtrack.stack.directory import free_ports

RULES: Final = Path(__file__).parents[1] / "deploy/prometheus"


def find_programs() -> Path:
    """Return the folder that has prometheus and promtool; get them where they are missing.

    The test is skipped where they cannot be had: the system does not need them.
    """
    if program := shutil.which("promtool"):
        return Path(program).parent
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "slimtrack"
    cache.mkdir(parents=True, exist_ok=True)
    unpacked = cache / "prometheus"
    with (cache / "prometheus.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not unpacked.exists():
            try:
                _unpack(unpacked)
            except (OSError, subprocess.CalledProcessError) as error:
                pytest.skip(
                    "Prometheus, which SlimTrack itself does not need, is not here, and Debian's"
                    f" package of it cannot be had: {error}"
                )
    return unpacked / "usr/bin"


def _unpack(place: Path) -> None:
    """Unpack the package beside the place, then move it there; nothing is installed."""
    with tempfile.TemporaryDirectory(dir=place.parent) as folder:
        download = ("apt-get", "-qq", "download", "prometheus")
        if subprocess.run(download, cwd=folder, capture_output=True, check=False).returncode:
            # The lists of packages are missing, or old.
            subprocess.run(["apt-get", "-qq", "update"], capture_output=True, check=True)  # noqa: S607
            subprocess.run(download, cwd=folder, capture_output=True, check=True)
        [package] = Path(folder).glob("*.deb")
        draft = Path(folder) / "root"
        subprocess.run(["dpkg-deb", "--extract", package, draft], check=True)  # noqa: S607
        draft.rename(place)


class Prometheus:
    """Scrapes pages every second, and has our rules, each of which fires at once.

    Args:
        url: where it answers.
    """

    def __init__(self, url: str) -> None:
        self._url = url

    def is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self._url}/-/ready") as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def alerts(self) -> list[dict[str, Any]]:
        """What fires now: labels and annotations of each."""
        alerts: list[dict[str, Any]] = self._ask("alerts")["alerts"]
        assert all(each["state"] == "firing" for each in alerts)
        return alerts

    def names(self) -> set[str]:
        """The names of what fires now."""
        return {each["labels"]["alertname"] for each in self.alerts()}

    def has_evaluated(self) -> bool:
        """Whether every rule was evaluated, and could be."""
        [group] = self._ask("rules")["groups"]
        assert all(rule["health"] != "err" for rule in group["rules"]), group
        return all(rule["health"] == "ok" for rule in group["rules"])

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The values of an expression now; raises HTTPError where it is none."""
        answer = self._ask(f"query?{urlencode({'query': expression})}")
        values: list[dict[str, Any]] = answer["result"]
        return values

    def _ask(self, path: str) -> Any:
        with urllib.request.urlopen(f"{self._url}/api/v1/{path}") as answer:
            return msgspec.json.decode(answer.read())["data"]


@contextmanager
def prometheus_of(pages: Collection[str], *, folder: Path) -> Iterator[Prometheus]:
    """Run Prometheus for some pages; nothing of it is left at the end."""
    programs = find_programs()
    rules = (RULES / "rules.yml").read_text()
    # As they stand, but for the time that they wait: tests have less.
    rules, waits = re.subn(r"^ +for: \w+\n", "", rules, flags=re.MULTILINE)
    assert waits > 10
    (folder / "rules.yml").write_text(rules)
    targets = [urlsplit(url).netloc for url in pages]
    config = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
        "rule_files": ["rules.yml"],
        "scrape_configs": [{"job_name": "slimtrack", "static_configs": [{"targets": targets}]}],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    [port] = free_ports(1)
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            [
                programs / "prometheus",
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        prometheus = Prometheus(f"http://127.0.0.1:{port}")
        wait_until(prometheus.is_ready)
        yield prometheus
    finally:
        process.terminate()
        process.wait()
