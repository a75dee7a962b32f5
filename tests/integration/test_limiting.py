"""How often a key may ask, counted in Redis for all processes."""

import socket
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import falcon.testing
import pytest
import redis
from proxy import Proxy
from psycopg_pool import ConnectionPool

from slimtrack.domain.access import Scope
from slimtrack.http.app import create_app
from slimtrack.http.auth import Authentication, RateLimiting
from slimtrack.redis.history_cache import HistoryCache
from slimtrack.redis.rate_limiter import RateLimiter
from slimtrack.stack.directory import StateDirectory, free_ports
from slimtrack.stack.provision import REDIS, provide
from slimtrack.stack.redis import prepare as prepare_redis
from slimtrack.stack.supervisor import Supervisor
from slimtrack.telemetry import metrics
from slimtrack.use_cases.access import Access
from slimtrack.use_cases.tracking import Tracking


@pytest.fixture
def name() -> str:
    return uuid4().hex


def skipped() -> float:
    [metric] = metrics.RATE_LIMIT_SKIPPED.collect()
    return next(each.value for each in metric.samples if each.name.endswith("_total"))


def test_so_many_requests_pass_and_no_more(servers: Mapping[str, str], name: str) -> None:
    one, other = (RateLimiter(servers["REDIS_URL"], per_minute=5) for _ in range(2))
    taken = [each.take(name) for each in (one, other, one, other, one)]
    assert [each and (each.allowed, each.remaining) for each in taken] == [
        (True, left) for left in (4, 3, 2, 1, 0)
    ]
    refused = other.take(name)
    assert refused
    assert (refused.allowed, refused.limit, refused.remaining) == (False, 5, 0)
    assert 0 < refused.reset <= 60
    fresh = one.take(name + "*")
    assert fresh
    assert fresh.allowed


def test_many_at_once_do_not_pass_together(servers: Mapping[str, str], name: str) -> None:
    limiter = RateLimiter(servers["REDIS_URL"], per_minute=100)
    with ThreadPoolExecutor(16) as threads:
        taken = list(threads.map(lambda _: limiter.take(name), range(200)))
    assert sum(each is not None and each.allowed for each in taken) == 100


@pytest.fixture
def silent() -> Iterator[str]:
    """The URL of a Redis that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"redis://127.0.0.1:{server.getsockname()[1]}/0"


def test_without_redis_requests_pass_at_once_and_are_counted(silent: str, name: str) -> None:
    for url in (silent, "redis://127.0.0.1:1/0"):
        limiter, before = RateLimiter(url, per_minute=1), skipped()
        started = time.monotonic()
        assert [limiter.take(name) for _ in range(100)] == [None] * 100
        assert time.monotonic() - started < 1
        assert skipped() - before == 100


def test_redis_is_asked_again_when_it_is_back(servers: Mapping[str, str], name: str) -> None:
    now = [0.0]
    with Proxy(servers["REDIS_URL"]) as proxy:
        limiter = RateLimiter(proxy.url, per_minute=9, clock=lambda: now[0])
        assert limiter.take(name)
        proxy.refuse()
        proxy.cut()
        assert limiter.take(name) is None
        proxy.accept()
        assert limiter.take(name) is None
        now[0] = 1.1
        assert limiter.take(name)


def test_a_key_that_asks_too_often_is_told_when_to_come_back(
    servers: Mapping[str, str], tracking: Tracking, pool: ConnectionPool
) -> None:
    access = Access(pool)
    limiter = RateLimiter(servers["REDIS_URL"], per_minute=2)
    app = create_app(
        tracking=tracking,
        cache=HistoryCache(servers["REDIS_URL"]),
        authentication=Authentication(access.authenticate),
        rate_limiting=RateLimiting(limiter.take),
        dependencies={},
        required=(),
    )
    token, other = (
        access.create_key(tenant="default", name="test", scopes=[Scope.ORDERS_READ])
        for _ in range(2)
    )

    def ask(token: str) -> falcon.testing.Result:
        headers = {"Authorization": f"Bearer {token}"}
        return falcon.testing.simulate_get(app, "/api/orders", headers=headers)

    answers = [ask(token) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[0].headers["RateLimit-Policy"] == '"key";q=2;w=60'
    assert answers[0].headers["RateLimit"].startswith('"key";r=1;t=')
    assert answers[2].json["type"] == "urn:slimtrack:problem:rate-limited"
    assert 1 <= int(answers[2].headers["Retry-After"]) <= 60
    assert ask(other).status_code == 200
    for _ in range(5):
        assert falcon.testing.simulate_get(app, "/health/live").status_code == 200


@pytest.fixture
def small() -> Iterator[str]:
    """The URL of a Redis of this test's own, as the stack starts it, but with little memory."""
    with tempfile.TemporaryDirectory(prefix="slimtrack-limiting-") as folder:
        Path(folder).chmod(0o755)
        program = provide([REDIS], environment={}, report=print)[REDIS]
        state = StateDirectory.create(Path(folder) / "state")
        service, url = prepare_redis(state, program, port=free_ports(1)[0])
        supervisor = Supervisor(on_line=lambda *_: None)
        try:
            supervisor.start([service])
            with redis.Redis.from_url(url) as client:
                client.config_set("maxmemory", "4mb")
            yield url
        finally:
            supervisor.stop()


def test_requests_are_counted_while_the_cache_is_full(small: str, name: str) -> None:
    limiter, cache, before = RateLimiter(small, per_minute=4), HistoryCache(small), skipped()
    allowed = []
    with redis.Redis.from_url(small) as client:
        for _ in range(1_000):
            cache.put(uuid4(), version=1, history=b"x" * 10_000)
        for _ in range(8):
            # Redis tells the times of use apart by seconds, in which this cache is not filled.
            time.sleep(1.01)
            for _ in range(100):
                cache.put(uuid4(), version=1, history=b"x" * 10_000)
            taken = limiter.take(name)
            assert taken
            allowed.append(taken.allowed)
        assert client.info("stats")["evicted_keys"] > 1_000
        without_end = -1
        assert without_end not in map(client.ttl, client.scan_iter(count=1_000))
    assert allowed == [True] * 4 + [False] * 4
    assert skipped() == before
