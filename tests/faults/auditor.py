"""The auditor: what must hold once the system is quiet. Shares no code with the product."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

import psycopg
from ledger import Line, digest_of

#: The moves that an order may make, written down a second time on purpose.
MOVES = {
    None: {"received"},
    "received": {"processing", "cancelled"},
    "processing": {"in_transit", "cancelled"},
    "in_transit": {"out_for_delivery", "lost"},
    "out_for_delivery": {"delivered", "delivery_failed", "lost"},
    "delivery_failed": {"out_for_delivery", "returned", "lost"},
}
FINAL = {"delivered", "cancelled", "returned", "lost"}


@dataclass
class Findings:
    """The table that is printed, in the words of RabbitMQ's Jepsen suite."""

    accepted: int = 0
    delivered: int = 0
    dead: int = 0
    #: Orders that were accepted and are nowhere, or neither final nor a dead letter.
    lost: int = 0
    #: Orders, rows or messages that should not be there.
    unexpected: int = 0
    #: Orders, events or effects that are there more than once.
    duplicated: int = 0
    #: Orders whose request had to be repeated because its outcome was unknown.
    recovered: int = 0
    notes: list[str] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        return not (self.lost or self.unexpected or self.duplicated or self.notes)

    def __str__(self) -> str:
        figures = {name: value for name, value in asdict(self).items() if name != "notes"}
        lines = [f"{name:>10}  {value:,}" for name, value in figures.items()]
        return "\n".join([*lines, *self.notes[:20]])


def audit(connection: psycopg.Connection[Any], ledger: Iterable[Line]) -> Findings:
    """Compare what the system was told with what it holds."""
    findings = Findings()
    orders = {
        row[0]: row[1:]
        for row in connection.execute(
            "SELECT id::text, reference, description, metadata, status, version FROM orders"
        ).fetchall()
    }
    events: defaultdict[str, list[tuple[int, str, str]]] = defaultdict(list)
    for order_id, *event in connection.execute(
        "SELECT order_id::text, sequence, status, idempotency_key FROM order_events"
        " ORDER BY order_id, sequence"
    ).fetchall():
        events[order_id].append((event[0], event[1], event[2]))
    dead = {
        row[0]
        for row in connection.execute(
            "SELECT order_id::text FROM dead_letters WHERE order_id IS NOT NULL"
        ).fetchall()
    }
    _check_ledger(findings, ledger, orders)
    for order_id, order in orders.items():
        _check_order(findings, order_id, order, events.pop(order_id, []), dead)
    findings.unexpected += len(events)
    row = connection.execute("SELECT count(*) FROM outbox").fetchone()
    if row and row[0]:
        findings.unexpected += row[0]
        findings.notes.append(f"I7: {row[0]} rows are still in the outbox")
    return findings


def _check_ledger(
    findings: Findings, ledger: Iterable[Line], orders: dict[str, tuple[Any, ...]]
) -> None:
    by_reference = {order[0]: order_id for order_id, order in orders.items()}
    expected = set()
    for line in ledger:
        if line.order_id is None:
            findings.notes.append(f"I2: {line.reference} never had a definite answer")
            continue
        findings.accepted += 1
        findings.recovered += line.requests > 1
        expected.add(line.order_id)
        order = orders.get(line.order_id)
        if order is None:
            findings.lost += 1
            findings.notes.append(f"I1: order {line.order_id} of {line.reference} is nowhere")
        elif digest_of(order[1], order[2]) != line.digest:
            findings.unexpected += 1
            findings.notes.append(f"I1: order {line.order_id} is not what was asked for")
        elif by_reference[line.reference] != line.order_id:
            findings.duplicated += 1
    if strangers := set(orders) - expected:
        findings.unexpected += len(strangers)
        findings.notes.append(f"I3: nobody asked for {sorted(strangers)[:3]}")


def _check_order(
    findings: Findings,
    order_id: str,
    order: tuple[Any, ...],
    events: list[tuple[int, str, str]],
    dead: set[str],
) -> None:
    status, version = order[3], order[4]
    if status == "delivered":
        findings.delivered += 1
    elif order_id in dead:
        findings.dead += 1
    if status not in FINAL and order_id not in dead:
        findings.lost += 1
        findings.notes.append(f"I4: order {order_id} is {status} and nobody works on it")
    sequences = [event[0] for event in events]
    if sequences != list(range(1, version + 1)):
        findings.unexpected += 1
        findings.notes.append(f"I5: order {order_id} of version {version} has events {sequences}")
    if len({event[2] for event in events}) != len(events):
        findings.duplicated += 1
    before = None
    for _, after, _ in events:
        if after not in MOVES.get(before, set()):
            findings.unexpected += 1
            findings.notes.append(f"I5: order {order_id} moved from {before} to {after}")
        before = after
    statuses = [event[1] for event in events]
    if len(set(statuses)) != len(statuses):
        findings.duplicated += 1
    if statuses and statuses[-1] != status:
        findings.unexpected += 1
        findings.notes.append(f"I5: order {order_id} is {status}, its history says {statuses[-1]}")
