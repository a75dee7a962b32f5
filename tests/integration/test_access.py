"""Who gets in, and what they see."""

import json
import subprocess
import time
from collections.abc import Callable
from datetime import timedelta
from typing import ClassVar

import falcon.testing
import psycopg
import pytest
from clients import Callers
from command import run_slimtrack
from observing import wait_until

from slimtrack.domain.access import ANYBODY, Scope
from slimtrack.domain.order import Flow
from slimtrack.http.app import create_app
from slimtrack.http.auth import Open, Scopes
from slimtrack.redis.history_cache import HistoryCache
from slimtrack.use_cases.access import AccessError, lifetime_of, new_token
from slimtrack.use_cases.tracking import Tracking

UNKNOWN = "01938a5e-7c1d-7b8e-9a57-3f6d2c40b1e8"
#: Every resource that belongs to somebody, with its methods and the scope that each needs.
GUARDED = {
    ("GET", "/api/orders"): Scope.ORDERS_READ,
    ("POST", "/api/orders"): Scope.ORDERS_WRITE,
    ("POST", "/api/orders/bulk"): Scope.ORDERS_WRITE,
    ("GET", f"/api/orders/{UNKNOWN}"): Scope.ORDERS_READ,
    ("GET", f"/api/orders/{UNKNOWN}/events"): Scope.ORDERS_READ,
    ("POST", f"/api/orders/{UNKNOWN}/cancel"): Scope.ORDERS_WRITE,
    ("POST", f"/api/orders/{UNKNOWN}/reports"): Scope.REPORTS_WRITE,
    ("POST", f"/api/orders/{UNKNOWN}/corrections"): Scope.OPERATOR,
}


@pytest.mark.parametrize(("method", "path"), GUARDED)
def test_nobody_gets_in_without_a_valid_key(callers: Callers, method: str, path: str) -> None:
    valid = callers.access.create_key(tenant="default", name="test", scopes=list(Scope))
    other_secret = valid[:-1] + ("0" if valid[-1] != "0" else "1")
    for token in (None, "", "x", new_token(), other_secret, valid + "0", "stk__", "stk_ä_ä"):
        answer = callers.with_token(token).simulate_request(method, path)
        assert answer.status_code == 401, token
        assert answer.json["type"] == "urn:slimtrack:problem:unauthenticated"
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize(("method", "path"), GUARDED)
def test_a_key_allows_what_its_scopes_say_and_nothing_else(
    callers: Callers, method: str, path: str
) -> None:
    needed = GUARDED[method, path]
    others = [scope for scope in Scope if scope is not needed]
    refused = callers.make(scopes=others).simulate_request(method, path)
    assert refused.status_code == 403
    assert refused.json["scope"] == needed
    assert callers.make(scopes=[needed]).simulate_request(method, path).status_code not in {
        401,
        403,
    }


class Forgotten:
    """A resource that does not say who may write, or nothing at all."""

    scopes: ClassVar[Scopes] = {"GET": Scope.ORDERS_READ}

    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        resp.media = "read"

    def on_post(self, _req: falcon.Request, resp: falcon.Response) -> None:
        resp.media = "written"


class Silent:
    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        resp.media = "read"


def test_what_no_resource_allows_is_open_to_nobody(callers: Callers) -> None:
    caller = callers.make()
    caller.app.add_route("/forgotten", Forgotten())
    caller.app.add_route("/silent", Silent())
    assert caller.simulate_get("/forgotten").status_code == 200
    assert caller.simulate_post("/forgotten").status_code == 403
    assert caller.simulate_get("/silent").status_code == 403


def test_without_keys_only_this_machine_may_ask(tracking: Tracking) -> None:
    app = create_app(
        tracking=tracking,
        cache=HistoryCache("redis://127.0.0.1:1/0"),
        authentication=Open(lambda: ANYBODY),
        dependencies={},
        required=(),
    )
    client = falcon.testing.TestClient(app, headers={"Host": "localhost"})
    for address, status in {
        "127.0.0.1": 200,
        "127.9.9.9": 200,
        "::1": 200,
        "": 200,
        "10.0.0.7": 403,
        "0.0.0.0": 403,  # noqa: S104 - a caller, no address to listen on
        "2001:db8::1": 403,
        "nonsense": 403,
    }.items():
        answer = client.simulate_get("/api/orders", remote_addr=address)
        assert answer.status_code == status, address
    for name in ("Forwarded", "X-Forwarded-For", "X-Real-IP", "Via"):
        answer = client.simulate_get(
            "/api/orders", remote_addr="127.0.0.1", headers={name: "for=192.0.2.7"}
        )
        assert answer.status_code == 403, name
    # A name of somebody else's that leads here makes no page of theirs one of this machine.
    rebound = client.simulate_get("/api/orders", headers={"Host": "rebound.example:8080"})
    assert rebound.status_code == 403
    assert "ask for localhost" in rebound.json["detail"]


def test_without_keys_everybody_is_the_default_tenant_as_it_is_now(callers: Callers) -> None:
    assert callers.access.anybody().flow is Flow.SIMULATED
    callers.access.set_flow("default", flow=Flow.REPORTED)
    wait_until(lambda: callers.access.anybody().flow is Flow.REPORTED, timeout=1)
    assert callers.access.anybody().scopes == frozenset(Scope)


def test_a_basic_password_is_no_key(callers: Callers) -> None:
    answer = callers.with_token(None).simulate_get(
        "/api/orders", headers={"Authorization": "Basic YTpi"}
    )
    assert answer.status_code == 401


def test_health_and_the_flow_are_open(callers: Callers) -> None:
    nobody = callers.with_token(None)
    assert nobody.simulate_get("/health/live").status_code == 200
    assert nobody.simulate_get("/api/flow").json["initial"] == "received"
    diagram = nobody.simulate_get("/api/flow?format=mermaid")
    assert diagram.text.startswith("stateDiagram-v2\n    [*] --> received")
    assert nobody.simulate_get("/api/flow?format=xml").status_code == 400


def test_another_tenants_order_is_not_there(callers: Callers) -> None:
    shop, rival = callers.make(tenant="shop"), callers.make(tenant="rival")
    order = shop.place(reference="PO-1")
    for name in (order["id"], order["tracking_code"]):
        for answer in (
            rival.simulate_get(f"/api/orders/{name}"),
            rival.simulate_get(f"/api/orders/{name}/events"),
            rival.command(name, "cancel"),
            rival.command(name, "reports", {"status": "processing"}),
            rival.command(name, "corrections", {"sequence": 1, "message": "no"}),
        ):
            assert answer.status_code == 404
            assert answer.json["type"] == "urn:slimtrack:problem:order-not-found"
    for query in ("", "?reference=PO-1", f"?tracking_code={order['tracking_code']}", "?limit=5"):
        assert rival.simulate_get("/api/orders" + query).json["orders"] == []
    assert rival.place(reference="PO-1")["id"] != order["id"]
    assert len(shop.events(order["id"])) == 1


def test_a_revoked_key_is_useless_within_a_second(callers: Callers) -> None:
    token = callers.access.create_key(tenant="default", name="test", scopes=[Scope.ORDERS_READ])
    caller = callers.with_token(token)
    assert caller.simulate_get("/api/orders").status_code == 200
    callers.access.revoke_key(token.split("_")[1])
    wait_until(lambda: caller.simulate_get("/api/orders").status_code == 401, timeout=1)
    with pytest.raises(AccessError, match="no API key"):
        callers.access.revoke_key("nobody")


def test_a_restarted_database_costs_no_caller_an_answer(
    callers: Callers, connection: psycopg.Connection
) -> None:
    caller = callers.make(tenant="shop")
    assert caller.simulate_get("/api/orders").status_code == 200
    find = (
        "SELECT pid FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    for _ in range(3):
        # The pool opens its connections again in the background.
        wait_until(lambda: connection.execute(find).rowcount == 2)
        for (pid,) in connection.execute(find).fetchall():
            connection.execute("SELECT pg_terminate_backend(%s)", [pid])
        time.sleep(0.6)  # until the key has to be looked up again
        assert caller.simulate_get("/api/orders").status_code == 200


def test_a_key_is_useless_when_its_time_is_up(callers: Callers) -> None:
    token = callers.access.create_key(
        tenant="default", name="t", scopes=[Scope.ORDERS_READ], lifetime=timedelta(seconds=0.2)
    )
    assert callers.with_token(token).simulate_get("/api/orders").status_code == 200
    time.sleep(0.25)
    assert callers.with_token(token).simulate_get("/api/orders").status_code == 401


def test_only_a_digest_of_a_key_is_stored_and_its_use_is_known(
    callers: Callers, connection: psycopg.Connection
) -> None:
    token = callers.access.create_key(tenant="default", name="t", scopes=[Scope.OPERATOR])
    [key] = callers.access.list_keys()
    assert (key.last_used_at, key.scopes) == (None, [Scope.OPERATOR])
    row = connection.execute("SELECT api_keys::text FROM api_keys").fetchone()
    assert row
    assert token.split("_")[2] not in row[0]
    callers.with_token(token[:-8] + "00000000").simulate_get("/api/orders")
    assert callers.access.list_keys()[0].last_used_at is None
    callers.with_token(token).simulate_get("/api/orders")
    assert callers.access.list_keys()[0].last_used_at


def test_a_tenant_has_one_name_and_a_flow(callers: Callers) -> None:
    access = callers.access
    assert access.create_tenant("shop", flow=Flow.REPORTED).flow is Flow.REPORTED
    with pytest.raises(AccessError, match="already"):
        access.create_tenant("shop", flow=Flow.REPORTED)
    assert access.set_flow("shop", flow=Flow.SIMULATED).flow is Flow.SIMULATED
    for call in (
        lambda: access.set_flow("nobody", flow=Flow.SIMULATED),
        lambda: access.create_key(tenant="nobody", name="x", scopes=[Scope.OPERATOR]),
    ):
        with pytest.raises(AccessError, match="no tenant"):
            call()


Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def slimtrack(environment: dict[str, str]) -> Command:
    def run(*arguments: str | bytes) -> subprocess.CompletedProcess[str]:
        return run_slimtrack(*arguments, environment=environment)

    return run


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("keys", "create", ""), "The name of a key must not be empty."),
        (("keys", "create", "x" * 101), "must have at most 100 characters, not 101."),
        (("keys", "create", "x", "--tenant", b"a\xff"), "must not have the character U+DCFF."),
        (("keys", "create", "x", "--days", "99999999"), "1 to 36500 days, not 99999999."),
        (("keys", "revoke", b"\xff"), "There is no API key"),
        (("tenants", "create", ""), "The name of a tenant must not be empty."),
    ],
)
def test_what_cannot_be_is_said_in_a_line(
    slimtrack: Command,
    connection: psycopg.Connection,
    arguments: tuple[str | bytes, ...],
    said: str,
) -> None:
    done = slimtrack(*arguments)
    assert (done.returncode, done.stdout) == (1, "")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert connection.execute(
        "SELECT (SELECT count(*) FROM api_keys), (SELECT count(*) FROM tenants)"
    ).fetchone() == (0, 1)


@pytest.mark.parametrize("name", ["", " ", "\u200b", "x" * 101, "a\nb", "a\0", "a\udcff"])
def test_a_name_is_a_line_that_people_can_read(callers: Callers, name: str) -> None:
    access = callers.access
    for call in (
        lambda: access.create_tenant(name, flow=Flow.REPORTED),
        lambda: access.set_flow(name, flow=Flow.REPORTED),
        lambda: access.create_key(tenant=name, name="x", scopes=[Scope.OPERATOR]),
        lambda: access.create_key(tenant="default", name=name, scopes=[Scope.OPERATOR]),
    ):
        with pytest.raises(AccessError, match=r"The name of a (tenant|key) must"):
            call()
    assert access.create_tenant(" shop ", flow=Flow.REPORTED).name == "shop"


@pytest.mark.parametrize("days", [-1, 0, 36_501, 10**30])
def test_a_key_is_valid_for_a_hundred_years_at_most(days: int) -> None:
    assert lifetime_of(36_500) == timedelta(days=36_500)
    with pytest.raises(AccessError, match=f"1 to 36500 days, not {days}"):
        lifetime_of(days)


def test_a_name_is_shown_as_it_is(slimtrack: Command) -> None:
    for name in ("[/red]", "[bold]x"):
        assert slimtrack("keys", "create", name).returncode == 0
        assert name in slimtrack("keys", "list").stdout


def test_the_commands_make_show_and_revoke_keys(slimtrack: Command) -> None:
    assert slimtrack("tenants", "create", "shop", "--flow", "reported").returncode == 0
    made = slimtrack("keys", "create", "checkout", "--tenant", "shop", "--days", "7")
    token = made.stdout.strip()
    key_id = token.split("_")[1]
    [key] = json.loads(slimtrack("keys", "list", "--json").stdout)
    assert (key["id"], key["tenant"], key["name"]) == (key_id, "shop", "checkout")
    assert key["scopes"] == ["orders:read", "orders:write"]
    assert key["expires_at"]
    assert token.split("_")[2] not in slimtrack("keys", "list").stdout
    assert slimtrack("keys", "revoke", key_id).returncode == 0
    assert json.loads(slimtrack("keys", "list", "--json").stdout)[0]["revoked_at"]
    assert slimtrack("keys", "revoke", "nobody").returncode == 1
    assert slimtrack("tenants", "flow", "shop", "simulated").returncode == 0
    tenants = json.loads(slimtrack("tenants", "list", "--json").stdout)
    flows = {each["name"]: each["flow"] for each in tenants}
    assert flows == {"default": "simulated", "shop": "simulated"}
