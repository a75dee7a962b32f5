"""The resource for many orders at once."""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Annotated, Any, ClassVar, Final
from uuid import UUID

import falcon
import msgspec

from slimtrack.domain.access import Principal, Scope
from slimtrack.domain.errors import ReferenceTakenError, SlimTrackError
from slimtrack.domain.idempotency import ROW, Answer, Once
from slimtrack.domain.order import NewOrder, Order, new_order_ids
from slimtrack.http import answers, problems, schemas
from slimtrack.http.auth import Scopes
from slimtrack.http.body import JSON, MAX_BULK_BODY, NDJSON, media_type_of, read_body
from slimtrack.http.decoding import explain
from slimtrack.use_cases.changing import Changes
from slimtrack.use_cases.tracking import Tracking

#: Orders in one request, at most.
MAX_ORDERS: Final = 1_000

_ROWS: Final = msgspec.json.Decoder(list[msgspec.Raw])


class BulkResult(msgspec.Struct, omit_defaults=True):
    """What came of one row: an order, or a problem."""

    status: Annotated[int, msgspec.Meta(description="As if the order had been placed alone.")]
    id: UUID | None = None
    tracking_code: str | None = None
    problem: dict[str, Any] | None = None


class BulkResults(msgspec.Struct):
    """What came of every row, in their order."""

    placed: Annotated[int, msgspec.Meta(description="How many rows are orders now.")]
    refused: int
    results: list[BulkResult]


class OrderBulk:
    """`/api/orders/bulk`."""

    scopes: ClassVar[Scopes] = {"POST": Scope.ORDERS_WRITE}

    def __init__(self, tracking: Tracking) -> None:
        self._tracking = tracking

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Place many orders; each row has a result of its own."""
        body = read_body(req, media_types=(JSON, NDJSON), most=MAX_BULK_BODY)
        rows = _split(body, lines=media_type_of(req.content_type) == NDJSON)
        batch = _Batch(
            rows,
            principal=req.context.principal,
            correlation_id=req.context.correlation_id,
        )
        answers.execute(self._tracking, req, resp, batch.place, body=body)


class _Batch:
    """The rows of one request: what each asks for, and what came of it.

    Args:
        rows: as they came.
        principal: who asks.
        correlation_id: of the request.
    """

    def __init__(self, rows: Sequence[bytes], *, principal: Principal, correlation_id: str) -> None:
        self._results: list[Any] = [None] * len(rows)
        self._orders: dict[int, NewOrder] = {}
        self._once: dict[int, Once] = {}
        keys: dict[str, int] = {}
        for index, (row, order_id) in enumerate(zip(rows, new_order_ids(len(rows)), strict=True)):
            try:
                order, key = schemas.read_bulk_order(
                    row, order_id=order_id, correlation_id=correlation_id, principal=principal
                )
                if key is not None and keys.setdefault(key, index) != index:
                    raise _repeated_key(keys[key])
            except problems.Problem as problem:
                self._results[index] = _refused(problem)
                continue
            self._orders[index] = order
            if key is not None:
                self._once[index] = Once(
                    tenant_id=principal.tenant_id,
                    key=f"{ROW}{key}",
                    fingerprint=answers.fingerprint_of(b"bulk", bytes(row)),
                )

    def place(self, changes: Changes) -> Answer:
        """Place all that can be placed, in one statement."""
        # Without keys there is nothing to be stored with the orders: a transaction costs twice
        # the way to the database.
        with changes.transaction() if self._once else nullcontext():
            return self._place(changes)

    def _place(self, changes: Changes) -> Answer:
        results = list(self._results)
        known = changes.recall_rows(list(self._once.values()))
        wanted: list[int] = []
        for index in self._orders:
            once = self._once.get(index)
            before = known.get(once.key) if once else None
            if isinstance(before, Answer):
                results[index] = msgspec.json.decode(before.body, type=BulkResult)
            elif before:
                results[index] = _refused_by(before)
            else:
                wanted.append(index)
        placed = changes.place_many([self._orders[index] for index in wanted]) if wanted else []
        for index, outcome in zip(wanted, placed, strict=True):
            results[index] = _result_of(self._orders[index], outcome)
        fresh = {
            self._once[index]: msgspec.json.encode(results[index])
            for index in wanted
            if index in self._once
        }
        changes.remember(fresh, status=200, headers={})
        count = sum(result.status == 201 for result in results)
        return answers.answer_with(BulkResults(count, len(results) - count, results))


def _split(body: bytes, *, lines: bool) -> list[bytes]:
    if lines:
        rows: list[bytes] = [line for line in body.split(b"\n") if line.strip()]
    else:
        try:
            rows = [bytes(row) for row in _ROWS.decode(body)]
        except msgspec.ValidationError as error:
            fault = problems.Fault("", "The body must be an array of orders")
            raise problems.invalid("invalid-bulk", [fault]) from error
        except (ValueError, RecursionError) as error:
            raise problems.malformed_body(explain(body, error)) from error
    if not 1 <= len(rows) <= MAX_ORDERS:
        fault = problems.Fault("", f"The body must have 1 to {MAX_ORDERS} orders, not {len(rows)}")
        raise problems.invalid("invalid-bulk", [fault])
    return rows


def _repeated_key(index: int) -> problems.Problem:
    fault = problems.Fault("idempotency_key", f"must come once, and row {index + 1} has it too")
    return problems.invalid("invalid-order", [fault])


def _result_of(order: NewOrder, outcome: Order | UUID) -> BulkResult:
    if isinstance(outcome, UUID):
        taken = ReferenceTakenError(reference=order.reference or "", order_id=outcome)
        return _refused_by(taken)
    return BulkResult(201, outcome.id, outcome.tracking_code)


def _refused_by(error: SlimTrackError) -> BulkResult:
    problem = problems.problem_of(error)
    if problem is None:
        raise error
    return _refused(problem)


def _refused(problem: problems.Problem) -> BulkResult:
    document: Mapping[str, Any] = problems.document_of(problem)
    return BulkResult(problem.status_code, problem=dict(document))
