"""W3C Trace Context: which trace a request, and all that follows from it, is part of."""

import re
from typing import Final, NamedTuple
from uuid import UUID

#: Version, trace id, parent id and flags; later versions may go on after a dash.
#: https://www.w3.org/TR/trace-context-1/#traceparent-header
_FORM: Final = re.compile(
    r"(?P<version>(?!ff)[0-9a-f]{2})-(?P<trace>(?!0{32})[0-9a-f]{32})-"
    r"(?P<parent>(?!0{16})[0-9a-f]{16})-(?P<flags>[0-9a-f]{2})(?P<rest>-.*)?"
)
_SAMPLED: Final = 1


class TraceParent(NamedTuple):
    """A span that something else follows from, and whether its trace is recorded."""

    trace_id: str
    span_id: str
    sampled: bool


class TracedRow(NamedTuple):
    """An outbox row whose trace is recorded."""

    order_id: UUID | str
    correlation_id: str | None
    traceparent: str
    attempt: int


def read(header: str | None) -> TraceParent | None:
    """Read a header; None where there is no valid one."""
    found = _FORM.fullmatch(header or "")
    if not found or (found["version"] == "00" and found["rest"] is not None):
        return None
    return TraceParent(found["trace"], found["parent"], bool(int(found["flags"], 16) & _SAMPLED))


def write(trace_parent: TraceParent) -> str:
    """Return it as a header of the first version."""
    flags = int(trace_parent.sampled)
    return f"00-{trace_parent.trace_id}-{trace_parent.span_id}-{flags:02x}"
