"""Who gets into the dashboard, and what every page of it does."""

import time
from collections.abc import Callable
from datetime import timedelta
from ipaddress import ip_network
from pathlib import Path
from secrets import randbelow
from typing import Any

import falcon
import pytest
from api_server import serve
from observing import wait_until
from psycopg_pool import ConnectionPool
from visitors import Visitor, dashboard_app

from slimtrack.domain.access import Scope
from slimtrack.domain.order import Flow
from slimtrack.http.dashboard.sessions import COOKIE, LIFETIME
from slimtrack.redis.rate_limiter import RateLimiter
from slimtrack.settings import Settings
from slimtrack.use_cases.access import Access
from slimtrack.use_cases.tracking import Tracking

#: An address of the dashboard at which there is nothing, for those who get in.
NOWHERE = "/dashboard/nowhere"
READER, OPERATOR = (Scope.ORDERS_READ,), (Scope.OPERATOR,)


@pytest.fixture
def access(pool: ConnectionPool) -> Access:
    return Access(pool)


@pytest.fixture
def make_app(tracking: Tracking, settings: Settings, pool: ConnectionPool) -> Callable[..., Any]:
    def make(**changed: Any) -> falcon.App[Any, Any]:
        return dashboard_app(settings, pool, tracking, **changed)

    return make


@pytest.fixture
def visitor(make_app: Callable[..., Any]) -> Visitor:
    return Visitor(make_app())


def make_key(access: Access, *scopes: Scope, **given: Any) -> str:
    return access.create_key(**{"tenant": "default", "name": "test", "scopes": scopes, **given})


@pytest.mark.parametrize("scopes", [READER, OPERATOR])
def test_a_key_opens_the_dashboard_until_somebody_signs_out(
    visitor: Visitor, access: Access, scopes: tuple[Scope, ...]
) -> None:
    asked = visitor.get("/dashboard/nowhere?page=2")
    assert (asked.status_code, asked.headers["location"]) == (
        303,
        "/dashboard/sign-in?next=%2Fdashboard%2Fnowhere%3Fpage%3D2",
    )

    opened = visitor.sign_in(make_key(access, *scopes), then="/dashboard/nowhere?page=2")
    assert (opened.status_code, opened.headers["location"]) == (303, "/dashboard/nowhere?page=2")
    inside = visitor.get(NOWHERE)
    assert inside.status_code == 404
    assert "Sign out" in inside.text
    assert ("read-only" in inside.text) == (scopes == READER)

    assert visitor.post("/dashboard/sign-out").status_code == 303
    assert visitor.get(NOWHERE).status_code == 303


@pytest.mark.parametrize(
    "wrong",
    [
        *(Scope.ORDERS_WRITE, Scope.REPORTS_WRITE, f"stk_0123456789ab_{'0' * 64}"),
        f"stk_{12 * chr(0)}_{'0' * 64}",  # PostgreSQL knows no such character
    ],
)
def test_no_other_key_does(visitor: Visitor, access: Access, wrong: Scope | str) -> None:
    token = make_key(access, wrong) if isinstance(wrong, Scope) else wrong

    refused = visitor.sign_in(token)

    assert refused.status_code == 403
    assert 'role="alert"' in refused.text
    assert token not in refused.text
    assert visitor.get(NOWHERE).status_code == 303


def test_a_session_ends_with_its_key(visitor: Visitor, access: Access) -> None:
    token = make_key(access, *OPERATOR)
    visitor.sign_in(token)
    assert visitor.get(NOWHERE).status_code == 404

    access.revoke_key(token.split("_")[1])

    wait_until(lambda: visitor.get(NOWHERE).status_code == 303, timeout=2)


def test_a_session_ends_by_itself(
    visitor: Visitor, access: Access, monkeypatch: pytest.MonkeyPatch
) -> None:
    visitor.sign_in(make_key(access, *OPERATOR, lifetime=timedelta(days=1)))
    now = time.time()

    monkeypatch.setattr(time, "time", lambda: now + LIFETIME - 10)
    assert visitor.get(NOWHERE).status_code == 404
    monkeypatch.setattr(time, "time", lambda: now + LIFETIME + 10)
    assert visitor.get(NOWHERE).status_code == 303


def test_clocks_that_differ_end_no_session(
    visitor: Visitor, access: Access, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = make_key(access, *OPERATOR)
    visitor.sign_in(token)
    signed_at = time.time()

    for behind in (2, 50):
        monkeypatch.setattr(time, "time", lambda behind=behind: signed_at - behind)
        assert visitor.get(NOWHERE).status_code == 404
    # A process whose clock is wrong asks for the key, and leaves the cookie to the others.
    for wrong in (-120, LIFETIME + 120):
        monkeypatch.setattr(time, "time", lambda wrong=wrong: signed_at + wrong)
        refused = visitor.get(NOWHERE)
        assert (refused.status_code, dict(refused.cookies)) == (303, {})
        assert not visitor.get("/dashboard/sign-in").cookies
    monkeypatch.setattr(time, "time", lambda: signed_at)
    assert visitor.get(NOWHERE).status_code == 404
    monkeypatch.setattr(time, "time", lambda: signed_at + LIFETIME + 120)
    assert visitor.sign_in(token).status_code == 303
    assert visitor.get(NOWHERE).status_code == 404


def test_a_cookie_is_kept_from_scripts_and_other_sites_and_cannot_be_changed(
    visitor: Visitor, access: Access, make_app: Callable[..., Any]
) -> None:
    opened = visitor.sign_in(make_key(access, *OPERATOR))
    cookie = opened.cookies[COOKIE]
    assert (cookie.http_only, cookie.same_site, cookie.path) == (True, "Lax", "/dashboard")
    assert cookie.max_age == LIFETIME
    assert not cookie.secure
    secured = Visitor(make_app()).get("/dashboard/sign-in", X_Forwarded_Proto="https")
    assert secured.cookies[COOKIE].secure

    honest = visitor.cookies[COOKIE]
    for forged in (honest[:-3] + "AAA", honest.split(".")[0], "x" + honest, "", "é"):
        visitor.cookies = {COOKIE: forged}
        assert visitor.get(NOWHERE).status_code == 303, forged


def test_what_changes_something_needs_the_token_of_the_session(
    visitor: Visitor, access: Access, make_app: Callable[..., Any]
) -> None:
    token = make_key(access, *OPERATOR)
    visitor.sign_in(token)
    visitor.get(NOWHERE)
    other = Visitor(make_app())
    other.sign_in(token)

    for foreign in ("", "x", other.csrf_token, visitor.csrf_token[:-1]):
        assert visitor.send("/dashboard/sign-out", {"csrf": foreign}).status_code == 403
    assert visitor.get(NOWHERE).status_code == 404
    header = {"X_CSRF_Token": visitor.csrf_token}
    assert visitor.send("/dashboard/sign-out", {}, **header).status_code == 303


@pytest.mark.parametrize(
    "wanted",
    [
        "https://elsewhere.example/dashboard",
        "//elsewhere.example/dashboard",
        "/\\elsewhere.example",
        "/dashboard\\..",
        "javascript:alert(1)",
        "/api/orders",
        "/dashboard\r\nSet-Cookie: a=b",
        "//[",
    ],
)
def test_nobody_is_led_elsewhere(visitor: Visitor, access: Access, wanted: str) -> None:
    opened = visitor.sign_in(make_key(access, *OPERATOR), then=wanted)
    assert (opened.status_code, opened.headers["location"]) == (303, "/dashboard")


def test_where_one_is_led_is_an_address(visitor: Visitor, access: Access) -> None:
    wanted = "/dashboard/orders?reference=中&page=%2F"
    opened = visitor.sign_in(make_key(access, *OPERATOR), then=wanted)
    assert opened.headers["location"] == "/dashboard/orders?reference=%E4%B8%AD&page=%2F"
    report = visitor.get("/dashboard/orders/%0d%0aSet-Cookie:%20a=b%E4%B8%AD/report")
    assert report.headers["location"] == "/dashboard/orders/%0D%0ASet-Cookie%3A%20a%3Db%E4%B8%AD"


def test_another_tenants_key_opens_its_own_pages_only(visitor: Visitor, access: Access) -> None:
    access.create_tenant("shop", flow=Flow.REPORTED)
    visitor.sign_in(make_key(access, *OPERATOR, tenant="shop"))

    refused = visitor.get(NOWHERE)

    assert refused.status_code == 403
    assert "for those who run the service" in refused.text


def test_where_no_keys_are_asked_for_everybody_on_this_machine_operates(
    make_app: Callable[..., Any],
) -> None:
    visitor = Visitor(make_app(authentication=False))
    inside = visitor.get(NOWHERE)
    assert inside.status_code == 404
    assert "read-only" not in inside.text
    assert visitor.send("/dashboard/sign-out", {"csrf": "x"}).status_code == 403
    passed_on = visitor.get("/dashboard/sign-in", X_Forwarded_For="10.0.0.1")
    assert passed_on.status_code == 403
    assert visitor.get("/dashboard", Host="rebound.example").status_code == 403


def test_behind_a_proxy_each_address_has_its_own_attempts_to_sign_in(
    make_app: Callable[..., Any], access: Access
) -> None:
    proxy = Visitor(make_app(trusted_proxies=[ip_network("127.0.0.0/8")]))
    proxy.get("/dashboard/sign-in")
    form = {"csrf": proxy.csrf_token, "key": "wrong"}
    guesser, holder = (f"203.0.113.{randbelow(127) + more}" for more in (0, 128))
    for _ in range(130):  # the window slides: a few more than 100 may pass
        refused = proxy.send("/dashboard/sign-in", form, X_Forwarded_For=guesser)
    assert refused.status_code == 429
    form["key"] = make_key(access, *OPERATOR)
    assert proxy.send("/dashboard/sign-in", form, X_Forwarded_For=holder).status_code == 303


def test_pages_parts_and_streams_count_as_requests_of_the_key(
    make_app: Callable[..., Any], access: Access, settings: Settings
) -> None:
    visitor = Visitor(make_app(rate_limit=4))
    token = make_key(access, *OPERATOR)
    visitor.sign_in(token)
    assert visitor.get("/dashboard/live/overview", Accept="text/event-stream").status_code == 200
    answers = [visitor.get(NOWHERE) for _ in range(8)]
    assert (answers[0].status_code, answers[-1].status_code) == (404, 429)
    assert "Too often; wait a moment" in answers[-1].text
    assert int(answers[-1].headers["retry-after"]) > 0
    part = visitor.get(NOWHERE, HX_Request="true")
    assert (part.status_code, part.json["title"]) == (429, "Rate limited")
    # Over the API the key has used up the same.
    left = RateLimiter(settings.redis_url, per_minute=4).take(token.split("_")[1])
    assert left
    assert not left.allowed
    assert visitor.post("/dashboard/sign-out").status_code == 303


@pytest.mark.parametrize(
    ("accepted", "language", "words"),
    [
        ("", "en", "Sign in"),
        ("de, en;q=0.5", "en", "Sign in"),
        ("pt-BR,pt;q=0.9,en;q=0.8", "pt-BR", "Entrar"),
        ("pt;q=0.3, en;q=0.8", "en", "Sign in"),
        ("pt;q=0, *", "en", "Sign in"),
        ("PT-pt;q=x, pt", "pt-BR", "Entrar"),
    ],
)
def test_a_page_speaks_the_readers_language(
    make_app: Callable[..., Any], accepted: str, language: str, words: str
) -> None:
    page = Visitor(make_app(), language=accepted).get("/dashboard/sign-in")
    assert page.headers["content-language"] == language
    assert f'<html lang="{language}">' in page.text
    assert f"<h1>{words}</h1>" in page.text


def test_a_page_lets_nothing_in_from_elsewhere_and_its_files_are_kept(visitor: Visitor) -> None:
    page = visitor.get("/dashboard/sign-in")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "unsafe" not in page.headers["content-security-policy"]
    assert page.headers["cache-control"] == "no-store"
    places = [part.split('"')[0] for part in page.text.split('="/assets/')[1:]]
    assert len(places) >= 4
    for place in places:
        kept = visitor.get(f"/assets/{place}", Accept="*/*")
        assert kept.status_code == 200
        assert "immutable" in kept.headers["cache-control"]
        digest, name = place.split("/")
        assert visitor.get(f"/assets/{digest[:-1]}0/{name}0", Accept="*/*").status_code == 404


def test_a_dashboard_that_is_off_is_not_there(make_app: Callable[..., Any]) -> None:
    visitor = Visitor(make_app(dashboard=False))
    for path in ("/", "/dashboard", "/dashboard/sign-in"):
        assert visitor.get(path).status_code == 404


def test_a_session_is_good_in_every_process_of_the_api(
    environment: dict[str, str], access: Access, tmp_path: Path
) -> None:
    token = make_key(access, *OPERATOR)
    environment |= {"SLIMTRACK_AUTH": "on"}
    with serve(environment, tmp_path, workers=2) as server:

        def ask(head: str, body: bytes = b"") -> Any:
            lines = f"{head}\r\nHost: a\r\nAccept: text/html\r\nContent-Length: {len(body)}\r\n"
            form = "Content-Type: application/x-www-form-urlencoded\r\n" if body else ""
            cookie = f"Cookie: {given}\r\n" if given else ""
            return server.send(f"{lines}{form}{cookie}\r\n".encode(), body)

        given = ""
        page = ask("GET /dashboard/sign-in HTTP/1.1")
        given = page.headers["Set-Cookie"].split(";")[0]
        csrf = page.body.decode().split('name="csrf" value="')[1].split('"')[0]
        opened = ask("POST /dashboard/sign-in HTTP/1.1", f"csrf={csrf}&key={token}".encode())
        assert opened.status == 303
        given = opened.headers["Set-Cookie"].split(";")[0]
        for _ in range(20):  # each connection is taken by either process
            assert ask(f"GET {NOWHERE} HTTP/1.1").status == 404
