"""The resource that shows how orders may move."""

from typing import Final

import falcon
import msgspec

from slimtrack.domain.order import FINAL, TRANSITIONS, Status
from slimtrack.http import queries
from slimtrack.http.auth import PUBLIC

MERMAID: Final = "text/vnd.mermaid"


class Move(msgspec.Struct):
    """A status, and what may follow it."""

    status: Status
    final: bool
    next: list[Status]


class Moves(msgspec.Struct):
    """Every status that an order may have, and every move between them."""

    initial: Status
    statuses: list[Move]


class FlowDocument:
    """`/api/flow`."""

    scopes = PUBLIC
    media_types = (falcon.MEDIA_JSON, MERMAID)

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Return the statuses and the moves between them, as JSON or as a Mermaid diagram."""
        form = queries.read_form(req.params, forms=("json", "mermaid"))
        if (form or req.client_prefers(self.media_types)) in {"mermaid", MERMAID}:
            resp.content_type = MERMAID
            resp.text = _diagram()
        else:
            moves = [
                Move(status, status in FINAL, sorted(allowed))
                for status, allowed in TRANSITIONS.items()
            ]
            resp.media = Moves(Status.RECEIVED, moves)


def _diagram() -> str:
    lines = ["stateDiagram-v2", f"    [*] --> {Status.RECEIVED}"]
    for status, allowed in TRANSITIONS.items():
        lines += [f"    {status} --> {each}" for each in sorted(allowed)]
        if status in FINAL:
            lines.append(f"    {status} --> [*]")
    return "\n".join(lines) + "\n"
