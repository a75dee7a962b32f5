"""Why somebody does something: asked for by every form that changes what others rely on."""

import falcon

from slimtrack.domain.errors import FieldError
from slimtrack.domain.operator_action import MAX_REASON, clean_reason
from slimtrack.http.dashboard.forms import Form
from slimtrack.http.dashboard.page import say


def read_reason(req: falcon.Request, form: Form, faults: dict[str, str]) -> str:
    """Return the reason that a form gives; where it gives none that will do, add to the faults."""
    try:
        return clean_reason(form.get("reason"))
    except FieldError:
        faults["reason"] = say(req, "actions.reason_wrong", most=MAX_REASON)
        return ""
