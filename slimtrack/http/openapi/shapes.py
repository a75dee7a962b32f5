"""The shapes of what requests and answers hold, where a type does not say all of it."""

import inspect
import re
from typing import Any, Final

from slimtrack.domain.order import MAX_METADATA_BYTES
from slimtrack.domain.rules import MAX_METADATA_DEPTH

Json = dict[str, Any]

#: Where a shape of the document is found by its name.
SCHEMAS: Final = "#/components/schemas/"


def reference_to(name: str) -> Json:
    """Return what stands for a shape of this name."""
    return {"$ref": f"{SCHEMAS}{name}"}


#: What JSON can be in the metadata: PostgreSQL takes no NUL, and readers no larger numbers.
METADATA_VALUE: Final[Json] = {
    "title": "MetadataValue",
    "description": "Any JSON; numbers within 64 bits, no NUL character in texts.",
    "anyOf": [
        {"type": "null"},
        {"type": "boolean"},
        {"type": "number", "minimum": -(2**63), "maximum": 2**63 - 1},
        {"type": "string", "pattern": r"^[^\x00]*$"},
        {"type": "array", "items": reference_to("MetadataValue")},
        reference_to("Metadata"),
    ],
}
METADATA: Final[Json] = {
    "title": "Metadata",
    "description": f"Up to {MAX_METADATA_BYTES} bytes of JSON, up to {MAX_METADATA_DEPTH} levels"
    " deep.",
    "type": "object",
    "propertyNames": {"pattern": r"^[^\x00]*$"},
    "additionalProperties": reference_to("MetadataValue"),
}
PROBLEM: Final[Json] = {
    "title": "Problem",
    "description": "What is wrong, for programs and people (RFC 9457).",
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string", "description": "Which problem it is; never changes."},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "For people."},
        "request_id": {
            "type": "string",
            "description": "That of X-Request-ID; not in the problems of single rows.",
        },
        "errors": {
            "type": "array",
            "description": "Each wrong field, parameter or header.",
            "items": {
                "type": "object",
                "required": ["field", "message"],
                "properties": {"field": {"type": "string"}, "message": {"type": "string"}},
            },
        },
        "order_id": {
            "type": "string",
            "format": "uuid",
            "description": "reference-taken: the order that has it.",
        },
        "order_url": {"type": "string", "description": "reference-taken: where that order is."},
        "current": reference_to("Status")
        | {"description": "transition-not-allowed: where the order is."},
        "allowed": {
            "type": "array",
            "items": reference_to("Status"),
            "description": "transition-not-allowed: where it can go.",
        },
        "version": {"type": "integer", "description": "stale-version: the order's version now."},
        "scope": {"type": "string", "description": "forbidden: what the key lacks."},
    },
}


def complete(name: str, shape: Json) -> Json:
    """Add what the types do not say: times, the free form of metadata, the problem of a row.

    What a docstring says of each attribute becomes the description of that field.
    """
    about, _, attributes = inspect.cleandoc(shape.get("description", "")).partition(
        "\n\nAttributes:\n"
    )
    meanings = {
        each["name"]: " ".join(each["meaning"].split()) for each in _ATTRIBUTE.finditer(attributes)
    }
    properties: Json = {}
    for field, given in shape.get("properties", {}).items():
        described = (
            {"description": _sentence(meanings[field]), **given} if field in meanings else given
        )
        if field.endswith("_at"):
            described = _be(described, {"type": "string", "format": "date-time"})
        elif field == "metadata":
            described = _be(described, reference_to("Metadata"))
        elif (name, field) == ("BulkResult", "problem"):
            described = _be(described, reference_to("Problem"))
        properties[field] = described
    described = {**shape, **({"description": about.partition("\n\n")[0]} if about else {})}
    return {**described, "properties": properties} if properties else described


#: An attribute in the form of Google's docstrings, and all of its lines.
_ATTRIBUTE: Final = re.compile(r"^ {4}(?P<name>\w+): (?P<meaning>.*(?:\n {8}.*)*)", re.MULTILINE)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _be(described: Json, shape: Json) -> Json:
    """Put a shape in the place of a field's own, beside null if the field may be that."""
    about = {name: text for name, text in described.items() if name in {"description", "default"}}
    examples = {"examples": described["examples"]} if "examples" in described else {}
    nullable = any(each.get("type") == "null" for each in described.get("anyOf", ()))
    return about | examples | ({"anyOf": [shape, {"type": "null"}]} if nullable else shape)
