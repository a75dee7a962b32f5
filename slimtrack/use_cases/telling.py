"""How the timeline of an order is put together of what is stored."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from slimtrack.domain.event import EventKind
from slimtrack.domain.incident import Incident, IncidentKind
from slimtrack.domain.order import FINAL, Flow, Order, Status
from slimtrack.domain.timeline import (
    EntryKind,
    OpenRow,
    RowName,
    Timeline,
    TimelineEntry,
    TimelineEvent,
    entry_awaited,
    entry_of,
)
from slimtrack.routing import ROUTES

#: Which stage a status makes due, where neither a row nor an event tells it any more.
_STAGES: Final[Mapping[Status, Status]] = {
    **{status: route.stage for status, route in ROUTES.items()},
    Status.DELIVERY_FAILED: Status.OUT_FOR_DELIVERY,
}
#: Where they are followed by nothing until somebody decides.
_ENDS: Final = frozenset({IncidentKind.DEAD_LETTER, IncidentKind.EDITED, IncidentKind.DISCARDED})
_WORKED_ON: Final = frozenset(
    {
        IncidentKind.FAILED,
        IncidentKind.DELAYED,
        IncidentKind.REARMED,
        IncidentKind.DEAD_LETTER,
        IncidentKind.UNDONE,
    }
)


@dataclass(slots=True, kw_only=True)
class _Row:
    """All that is known of one outbox row."""

    name: RowName
    start: TimelineEvent
    incidents: list[Incident] = field(default_factory=list)
    #: The event that it led to.
    outcome: TimelineEvent | None = None
    #: The event that moved its order in its place.
    overtaken_by: TimelineEvent | None = None
    open: OpenRow | None = None

    @property
    def is_dead(self) -> bool:
        return bool(self.incidents) and self.incidents[-1].kind in _ENDS


def make_timeline(
    order: Order,
    events: Sequence[TimelineEvent],
    incidents: Sequence[Incident],
    open_rows: Sequence[OpenRow],
    *,
    read_at: datetime,
) -> Timeline:
    """Put together what is known of an order.

    Args:
        order: the order.
        events: all of its events, oldest first.
        incidents: those of its rows that are kept.
        open_rows: its rows that wait or are in flight.
        read_at: when all of this was read.
    """
    rows = _rows_of(events, incidents, open_rows)
    entries = _Entries(rows)
    for event in events:
        entries.add_event(event)
    for row in rows.values():
        if row.outcome is None:
            entries.add_steps(row, until=read_at)
    entries.add_awaited(order, read_at=read_at)
    return Timeline(
        order.id,
        order.status,
        read_at,
        max((each.number - n for n, each in enumerate(incidents, 1)), default=0),
        entries.in_order(),
    )


def due_times(events: Iterable[TimelineEvent], incidents: Iterable[Incident]) -> list[datetime]:
    """Return every time at which a row of the order may be due."""
    found = {each.next_due_at for each in events} | {each.due_at for each in incidents}
    return sorted(moment for moment in found if moment)


def _rows_of(
    events: Sequence[TimelineEvent],
    incidents: Sequence[Incident],
    open_rows: Sequence[OpenRow],
) -> dict[RowName, _Row]:
    starts = {each.event.sequence: each for each in events}
    rows: dict[RowName, _Row] = {}

    def row_of(name: RowName) -> _Row:
        return rows.setdefault(name, _Row(name=name, start=starts[name.from_sequence]))

    for event in events:
        if event.row:
            row_of(event.row).outcome = event
    for incident in incidents:
        row_of(RowName(incident.from_sequence, incident.stage)).incidents.append(incident)
    for each in open_rows:
        row_of(RowName(each.from_sequence, each.stage)).open = each
    known = {name.from_sequence for name in rows}
    for event in events:
        stage = _STAGES.get(event.event.status)
        if event.next_due_at and event.event.sequence not in known and stage:
            row_of(RowName(event.event.sequence, stage))
    moves = [each for each in events if each.event.kind is EventKind.TRANSITION]
    for row in rows.values():
        if row.outcome is None:
            later = (each for each in moves if each.event.sequence > row.name.from_sequence)
            row.overtaken_by = next(later, None)
    return rows


class _Entries:
    """Collects entries, each after what caused it, whatever the clocks say."""

    def __init__(self, rows: Mapping[RowName, _Row]) -> None:
        self._rows = rows
        self._promises: defaultdict[int, list[_Row]] = defaultdict(list)
        self._overtaken: defaultdict[int, list[_Row]] = defaultdict(list)
        for row in rows.values():
            self._promises[row.name.from_sequence].append(row)
            if row.overtaken_by:
                self._overtaken[row.overtaken_by.event.sequence].append(row)
        #: Each with the earliest time that is not before what caused it.
        self._entries: list[tuple[datetime, TimelineEntry]] = []
        self._since: dict[int, datetime] = {}
        self._last = datetime.min.replace(tzinfo=UTC)

    def in_order(self) -> list[TimelineEntry]:
        return [entry for _, entry in sorted(self._entries, key=lambda each: each[0])]

    def add_event(self, told: TimelineEvent) -> None:
        event = told.event
        since = max(self._last, event.recorded_at)
        if told.row:
            since = max(since, self.add_steps(self._rows[told.row], until=since))
        self._last = self._since[event.sequence] = since
        self._add(
            since,
            TimelineEntry(
                happened_at=event.recorded_at,
                kind=EntryKind(event.kind),
                message=event.message,
                stage=told.row and told.row.stage,
                sequence=event.sequence,
                status=event.status,
                reason=event.reason,
                location=event.location,
                source=event.source,
                delivery_attempt=event.attempt,
                corrects=event.corrects,
                occurred_at=event.occurred_at,
                correlation_id=told.correlation_id,
            ),
        )
        for row in self._overtaken[event.sequence]:
            message = f"The promised stage {row.name.stage} is not wanted any more"
            self._add_step(row, EntryKind.UNWANTED, message, event.recorded_at, since)
        if told.next_due_at:
            for row in self._promises[event.sequence]:
                message = f"Stage {row.name.stage} is promised"
                self._add_step(
                    row, EntryKind.PROMISED, message, event.recorded_at, since, told.next_due_at
                )

    def add_steps(self, row: _Row, *, until: datetime) -> datetime:
        """Add what happened to a row since it was made; return when the last of it did."""
        since = self._since[row.name.from_sequence]
        due_at = row.start.next_due_at
        for incident in row.incidents:
            if incident.kind in _WORKED_ON:
                published_at = None if incident.repeats else incident.published_at
                since = self._add_way(row, due_at, published_at, since)
            since = max(since, incident.happened_at)
            if incident.kind is IncidentKind.UNDO_PROMISED and row.overtaken_by:
                # In a transaction that had begun before the order moved on.
                since = max(since, self._since[row.overtaken_by.event.sequence])
            self._add(since, entry_of(incident))
            if incident.kind is not IncidentKind.EDITED:
                due_at = incident.due_at
        if row.outcome:
            since = self._add_way(row, due_at, row.outcome.published_at, since)
        elif row.open and (row.open.undo or not row.overtaken_by):
            past = due_at if due_at and due_at <= until else None
            since = self._add_way(row, past, row.open.published_at, since)
        return since

    def add_awaited(self, order: Order, *, read_at: datetime) -> None:
        """Add what the order waits for."""
        latest = max(self._last, read_at)
        wanted = [row for row in self._rows.values() if not row.outcome and not row.overtaken_by]
        awaited = [
            entry_awaited(row.open, read_at=read_at)
            for row in self._rows.values()
            if row.open and (row.open.undo or not row.overtaken_by)
        ]
        if not (awaited or order.status in FINAL or any(row.is_dead for row in wanted)):
            # Rows of an older version, or of a process that is of one still, are not found.
            is_reported = order.flow is Flow.REPORTED
            message = f"Waiting{' for a report' if is_reported else '; until when is not known'}"
            awaited = [TimelineEntry(happened_at=read_at, kind=EntryKind.WAITING, message=message)]
        for entry in awaited:
            self._add(latest, entry)

    def _add_way(
        self,
        row: _Row,
        due_at: datetime | None,
        published_at: datetime | None,
        since: datetime,
    ) -> datetime:
        """Add that a row was due, and that it was published."""
        if due_at:
            since = max(since, due_at)
            message = f"Stage {row.name.stage} is due"
            self._add_step(row, EntryKind.DUE, message, due_at, since)
        if published_at:
            since = max(since, published_at)
            message = f"Stage {row.name.stage} is published"
            self._add_step(row, EntryKind.PUBLISHED, message, published_at, since)
        return since

    def _add_step(  # noqa: PLR0917 - one entry, as it is written
        self,
        row: _Row,
        kind: EntryKind,
        message: str,
        happened_at: datetime,
        since: datetime,
        due_at: datetime | None = None,
    ) -> None:
        entry = TimelineEntry(
            happened_at=happened_at,
            kind=kind,
            message=message,
            stage=row.name.stage,
            sequence=row.name.from_sequence,
            due_at=due_at,
            correlation_id=row.start.correlation_id,
        )
        self._add(since, entry)

    def _add(self, since: datetime, entry: TimelineEntry) -> None:
        self._entries.append((since, entry))
