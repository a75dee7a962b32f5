"""The page of the log of all processes."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final
from urllib.parse import parse_qsl, urlencode

import falcon

from slimtrack.http.dashboard.page import Page, render
from slimtrack.local.filtering import LineFilter
from slimtrack.local.log import newest_place, read_records
from slimtrack.local.records import LEVELS, place_of
from slimtrack.use_cases.operating import Operating

_LINES: Final = 100
_FIELDS: Final = ("level", "process", "order", "correlation", "text", "since", "until")
#: Characters of what is looked for, at most.
_LONGEST: Final = 200


class LogsTopic:
    """The last line of the log that is wanted; a key is a query in its canonical form.

    Args:
        operating: knows where the log is.
    """

    def __init__(self, operating: Operating) -> None:
        self._operating = operating

    def read(self, keys: frozenset[str]) -> Mapping[str, object]:
        """Return its place."""
        directory = self._operating.directory
        if directory is None:
            return dict.fromkeys(keys, "")
        wanted = {key: wanted_of(dict(parse_qsl(key))) for key in keys}
        return {key: str(newest_place(directory, wanted[key]) or "") for key in keys}


class Logs(Page):
    """`/dashboard/logs`: what the processes have written, the last first."""

    def __init__(self, operating: Operating) -> None:
        self._operating = operating

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Show a page of it."""
        directory = self._operating.directory
        if directory is None:
            render(req, resp, "logs/elsewhere.html")
            return
        given = given_in(req)
        before = place_of(req.get_param("before") or "")
        found = read_records(directory, wanted_of(given), before=before, limit=_LINES)
        names = [each.name for each in self._operating.resources()]
        older = urlencode({**given, "before": str(found.older)}) if found.older else ""
        render(
            req,
            resp,
            "logs/page.html",
            given={name: given.get(name, "") for name in _FIELDS},
            query=urlencode(given),
            before=before,
            records=found.records,
            older=older,
            levels=LEVELS,
            processes=names,
        )


def given_in(req: falcon.Request) -> dict[str, str]:
    """Return what a request asks for, in canonical form: only known fields, in their order."""
    given = {name: (req.get_param(name) or "").strip()[:_LONGEST] for name in _FIELDS}
    return {name: text for name, text in given.items() if text}


def key_of(req: falcon.Request) -> str:
    """Return the key under which what a request asks for is watched."""
    return urlencode(given_in(req))


def wanted_of(given: Mapping[str, str]) -> LineFilter:
    """Return which lines are meant; a time that is none is overlooked."""
    texts = {name: given.get(name, "") for name in ("level", "process", "order", "correlation")}
    return LineFilter(
        **texts,
        text=given.get("text", ""),
        since=_moment(given.get("since", "")),
        until=_moment(given.get("until", "")),
    )


def _moment(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):  # in UTC it may be before the year 1, or after 9999
        return None
