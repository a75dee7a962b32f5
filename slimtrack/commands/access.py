"""Commands on tenants and API keys."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from slimtrack.bootstrap import open_access
from slimtrack.commands.options import AsJson
from slimtrack.commands.target import StateDir, read_settings
from slimtrack.domain.access import DEFAULT_TENANT_NAME, Scope
from slimtrack.domain.order import Flow
from slimtrack.use_cases.access import lifetime_of

keys = typer.Typer(name="keys", help="Make, list and revoke API keys.", no_args_is_help=True)
tenants = typer.Typer(
    name="tenants", help="Make tenants, and say what moves their orders.", no_args_is_help=True
)

Moved = Annotated[Flow, typer.Option(help="What moves their orders: stages, or only reports.")]


@keys.command("create")
def create_key(
    name: Annotated[str, typer.Argument(help="What it is for, in your own words.")],
    scope: Annotated[
        list[Scope], typer.Option(help="What it allows; may be given several times.")
    ] = [Scope.ORDERS_READ, Scope.ORDERS_WRITE],  # noqa: B006 - typer copies it
    tenant: Annotated[str, typer.Option(help="Whose orders.")] = DEFAULT_TENANT_NAME,
    days: Annotated[int | None, typer.Option(help="How long it is valid.")] = None,
    state_dir: StateDir = None,
    as_json: AsJson = False,
) -> None:
    """Make an API key and print it: it is stored nowhere, and shown only now."""
    lifetime = None if days is None else lifetime_of(days)
    with open_access(read_settings(state_dir)) as access:
        token = access.create_key(tenant=tenant, name=name, scopes=scope, lifetime=lifetime)
    typer.echo(msgspec.json.encode({"key": token}) if as_json else token)


@keys.command("list")
def list_keys(state_dir: StateDir = None, as_json: AsJson = False) -> None:
    """Show all keys, without their secrets."""
    with open_access(read_settings(state_dir)) as access:
        _print(access.list_keys(), as_json=as_json)


@keys.command("revoke")
def revoke_key(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="As in stk_ID_…")],
    state_dir: StateDir = None,
) -> None:
    """Make a key useless, within a second, for ever."""
    with open_access(read_settings(state_dir)) as access:
        access.revoke_key(key_id)
    typer.echo(f"The key {key_id} is revoked.")


@tenants.command("create")
def create_tenant(
    name: Annotated[str, typer.Argument(help="Who it is.")],
    flow: Moved = Flow.SIMULATED,
    state_dir: StateDir = None,
) -> None:
    """Make a tenant: orders and keys of its own, invisible to all others."""
    with open_access(read_settings(state_dir)) as access:
        tenant = access.create_tenant(name, flow=flow)
    typer.echo(f"The tenant {tenant.name} is there; its orders are {tenant.flow}.")


@tenants.command("list")
def list_tenants(state_dir: StateDir = None, as_json: AsJson = False) -> None:
    """Show all tenants."""
    with open_access(read_settings(state_dir)) as access:
        _print(access.list_tenants(), as_json=as_json)


@tenants.command("flow")
def set_flow(
    name: Annotated[str, typer.Argument(help="Which tenant.")],
    flow: Annotated[Flow, typer.Argument(help="What moves its new orders.")],
    state_dir: StateDir = None,
) -> None:
    """Say what moves a tenant's new orders; those that are there stay as they are."""
    with open_access(read_settings(state_dir)) as access:
        tenant = access.set_flow(name, flow=flow)
    typer.echo(f"New orders of {tenant.name} are {tenant.flow}.")


def _print(rows: Sequence[msgspec.Struct], *, as_json: bool) -> None:
    if as_json:
        typer.echo(msgspec.json.encode(rows))
        return
    table = Table(box=None, pad_edge=False)
    documents: list[dict[str, Any]] = [msgspec.structs.asdict(row) for row in rows]
    for name in documents[0] if documents else ():
        table.add_column(name.upper().replace("_", " "))
    for document in documents:
        table.add_row(*(_text(value) for value in document.values()))
    Console(soft_wrap=True, highlight=False).print(table)


def _text(value: object) -> Text:
    """Show a value; nothing in it is markup."""
    if isinstance(value, list):
        return Text(" ".join(value))
    if isinstance(value, datetime):
        return Text(f"{value:%Y-%m-%d %H:%M:%S}")
    return Text("-" if value is None else str(value))
