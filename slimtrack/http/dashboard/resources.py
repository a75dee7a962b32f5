"""The pages of servers and processes."""

from collections.abc import Mapping
from typing import ClassVar, Final

import falcon

from slimtrack.domain.access import Scope
from slimtrack.domain.operator_action import OperatorAction
from slimtrack.http import problems
from slimtrack.http.auth import Scopes
from slimtrack.http.dashboard.page import Page, operator_of, render
from slimtrack.local.filtering import LineFilter
from slimtrack.local.log import newest_place, read_records
from slimtrack.use_cases.operating import Operating, Resource, ResourceNotFoundError

#: Lines of a console that are shown.
_LINES: Final = 200


class ResourcesTopic:
    """What changes on these pages: under no key, the states of all; under a name, its console too.

    Args:
        operating: knows the resources.
    """

    def __init__(self, operating: Operating) -> None:
        self._operating = operating

    def read(self, keys: frozenset[str]) -> Mapping[str, object]:
        """Return the states."""
        states = {each.name: _state_of(each) for each in self._operating.resources()}
        directory = self._operating.directory
        read: dict[str, object] = {"": states} if "" in keys else {}
        for name in keys & states.keys():
            newest = newest_place(directory, LineFilter(process=name)) if directory else None
            read[name] = [*states[name], str(newest or "")]
        return read


class Resources(Page):
    """`/dashboard/resources`: all of them."""

    def __init__(self, operating: Operating) -> None:
        self._operating = operating

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Show them."""
        resources = self._operating.resources()
        render(
            req,
            resp,
            "resources/page.html",
            groups=[
                ("servers", [each for each in resources if each.kind == "server"]),
                ("processes", [each for each in resources if each.kind != "server"]),
            ],
        )


class ResourceItem(Page):
    """`/dashboard/resources/{name}`: one of them, and its console.

    Args:
        operating: knows the resources.
        simulates: whether it may be stopped from here.
    """

    def __init__(self, operating: Operating, *, simulates: bool) -> None:
        self._operating = operating
        self._simulates = simulates

    def on_get(self, req: falcon.Request, resp: falcon.Response, name: str) -> None:
        """Show it."""
        self.show(req, resp, name, connection=None)

    def show(
        self, req: falcon.Request, resp: falcon.Response, name: str, *, connection: str | None
    ) -> None:
        """Show a resource, and how to connect to it where that was asked."""
        try:
            resource = self._operating.get(name)
        except ResourceNotFoundError as error:
            raise problems.path_not_found() from error
        directory = self._operating.directory
        found = (
            read_records(directory, LineFilter(process=name), limit=_LINES) if directory else None
        )
        render(
            req,
            resp,
            "resources/item.html",
            resource=resource,
            connection=connection,
            records=found.records[::-1] if found else None,
            can_stop=self._simulates and resource.can_stop,
        )


class ResourceConnection(Page):
    """`/dashboard/resources/{name}/connection`: how to connect, with the password."""

    scopes: ClassVar[Scopes] = {"POST": None}
    needs: ClassVar[Scopes] = {"POST": Scope.OPERATOR}

    def __init__(self, operating: Operating, *, item: ResourceItem) -> None:
        self._operating = operating
        self._item = item

    def on_post(self, req: falcon.Request, resp: falcon.Response, name: str) -> None:
        """Show it, and record who has seen it."""
        action = OperatorAction(operator=operator_of(req), reason="shown on the dashboard")
        try:
            connection = self._operating.reveal(name, action=action)
        except ResourceNotFoundError as error:
            raise problems.path_not_found() from error
        self._item.show(req, resp, name, connection=connection)
        resp.set_header("Cache-Control", "no-store")


def _state_of(resource: Resource) -> list[object]:
    return [resource.state, resource.pid, resource.restarts]
