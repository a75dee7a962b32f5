"""The load and what it remembers: a line before each request and one after, outside the system."""

import hashlib
import http.client
import json
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

#: Seconds until a request counts as lost; its outcome is then unknown.
_TIMEOUT = 5.0


@dataclass(frozen=True)
class Line:
    """What is known of one order: what was asked, and what the system said in the end."""

    reference: str
    digest: str
    order_id: str | None
    requests: int


def digest_of(description: str, metadata: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps([description, metadata], sort_keys=True).encode()).hexdigest()


class Ledger:
    """A file of requests and answers, on the disk before anything else happens."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()

    def write(self, **fact: object) -> None:
        with self._lock, self._path.open("a") as file:
            file.write(json.dumps(fact) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def lines(self) -> Iterator[Line]:
        asked: dict[str, tuple[str, int]] = {}
        answered: dict[str, str] = {}
        with self._path.open() as file:
            for text in file:
                fact = json.loads(text)
                if "order_id" in fact:
                    answered[fact["reference"]] = fact["order_id"]
                else:
                    count = asked.get(fact["reference"], ("", 0))[1]
                    asked[fact["reference"]] = (fact["digest"], count + 1)
        for reference, (digest, requests) in asked.items():
            yield Line(reference, digest, answered.get(reference), requests)


class Load:
    """Places orders over HTTP, each again and again until it has a definite answer."""

    def __init__(self, api_url: str, ledger: Ledger, *, name: str, count: int, rate: float) -> None:
        self._host = urlsplit(api_url).netloc
        self._ledger = ledger
        self._name = name
        self._count = count
        self._pause = 1 / rate
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"load-{name}")
        self._abandoned = False
        self.placed = 0
        #: Requests that were refused or had no answer, and came again; seconds of the slowest.
        self.repeated = 0
        self.slowest = 0.0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._abandoned = True
        self.stop()
        self._thread.join()

    def stop(self) -> None:
        """Place no further order; the one under way is seen to its end."""
        self._stopping.set()

    @property
    def is_done(self) -> bool:
        return not self._thread.is_alive()

    def _run(self) -> None:
        for number in range(self._count):
            if self._stopping.is_set():
                return
            self._place(f"{self._name}-{number}")
            self.placed += 1
            time.sleep(self._pause)

    def _place(self, reference: str) -> None:
        description, metadata = f"Parcel of {reference}", {"of": reference}
        digest = digest_of(description, metadata)
        body = {"description": description, "reference": reference, "metadata": metadata}
        # Until its outcome is known, also when the load is to stop.
        while not self._abandoned:
            self._ledger.write(reference=reference, digest=digest)
            begun = time.monotonic()
            try:
                status, answer = self._post(body)
            except (OSError, http.client.HTTPException, ValueError):
                status, answer = 0, {}
            self.slowest = max(self.slowest, time.monotonic() - begun)
            if status == 201:
                self._ledger.write(reference=reference, status=status, order_id=answer["id"])
                return
            # 409: the request whose answer was lost is still being carried out.
            assert status in {0, 409, 503}, (status, answer)
            self.repeated += 1
            time.sleep(0.05)

    def _post(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        connection = http.client.HTTPConnection(self._host, timeout=_TIMEOUT)
        try:
            connection.request(
                "POST",
                "/api/orders",
                json.dumps(body),
                {"Content-Type": "application/json", "Idempotency-Key": body["reference"]},
            )
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        finally:
            connection.close()
