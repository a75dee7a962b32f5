"""Adds the pages of those who run the system, and what they follow."""

from typing import Any, Final, NamedTuple

import falcon

from slimtrack.http.dashboard.door import Door
from slimtrack.http.dashboard.live_page import LivePage
from slimtrack.http.dashboard.logs import Logs, LogsTopic, key_of
from slimtrack.http.dashboard.queues import Queues, QueuesTopic, Reconciliation
from slimtrack.http.dashboard.resources import (
    ResourceConnection,
    ResourceItem,
    Resources,
    ResourcesTopic,
)
from slimtrack.http.dashboard.simulation import Simulation, Stop
from slimtrack.http.live import Broadcaster
from slimtrack.use_cases.operating import Operating
from slimtrack.use_cases.reconciling import Reconciling
from slimtrack.use_cases.simulating import Simulating

_RESOURCES: Final = "/dashboard/resources"
_QUEUES: Final = "/dashboard/queues"
_LOGS: Final = "/dashboard/logs"
_SIMULATE: Final = "/dashboard/simulate"


class Operations(NamedTuple):
    """The use cases behind these pages; nothing is simulated where there is none for it."""

    operating: Operating
    reconciling: Reconciling
    simulating: Simulating | None = None


def add_operations(
    app: falcon.App[Any, Any], door: Door, *, operations: Operations, broadcaster: Broadcaster
) -> None:
    """Add the pages to an app.

    Args:
        app: the app.
        door: lists them.
        operations: the use cases.
        broadcaster: tells pages what has changed.
    """
    operating, reconciling, simulating = operations
    resources, queues, logs = Resources(operating), Queues(reconciling), Logs(operating)
    item = ResourceItem(operating, simulates=simulating is not None)
    app.add_route(_RESOURCES, resources)
    app.add_route(f"{_RESOURCES}/{{name}}", item)
    app.add_route(f"{_RESOURCES}/{{name}}/connection", ResourceConnection(operating, item=item))
    app.add_route(_QUEUES, queues)
    app.add_route(f"{_QUEUES}/reconcile", Reconciliation(reconciling))
    app.add_route(_LOGS, logs)
    door.list_page("resources", _RESOURCES, resources)
    door.list_page("queues", _QUEUES, queues)
    door.list_page("logs", _LOGS, logs)
    if simulating:
        simulation = Simulation(simulating, operating=operating)
        app.add_route(_SIMULATE, simulation)
        app.add_route(f"{_SIMULATE}/stop", Stop(operating))
        door.list_page("simulate", _SIMULATE, simulation)
    followed = {
        "resources": LivePage(broadcaster, door, topic=ResourcesTopic(operating), key=_name_in),
        "queues": LivePage(broadcaster, door, topic=QueuesTopic(reconciling)),
        "logs": LivePage(broadcaster, door, topic=LogsTopic(operating), key=key_of),
    }
    for name, page in followed.items():
        app.add_route(f"/dashboard/live/{name}", page)


def _name_in(req: falcon.Request) -> str:
    return req.get_param("name") or ""
