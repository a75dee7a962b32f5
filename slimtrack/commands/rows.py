"""Reads rows of orders from CSV and JSON lines, one at a time, whatever the file is like."""

import csv
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO, Final, NamedTuple

import msgspec

from slimtrack.domain.access import Tenant
from slimtrack.domain.errors import FieldError, SlimTrackError
from slimtrack.domain.order import Flow, NewOrder, new_order_id
from slimtrack.domain.rules import clean_description, clean_metadata, clean_reference

#: Bytes of a line, and characters of a field; a longer row is refused, and never held in memory.
_LONGEST: Final = 1_048_576
_BOM: Final = b"\xef\xbb\xbf"
#: Where bytes that are not UTF-8 end up ("surrogateescape", PEP 383).
_UNDECODABLE: Final = range(0xDC80, 0xDD00)


#: What a row may have.
FIELDS: Final = ("description", "reference", "metadata", "flow")


class UnusableInputError(SlimTrackError):
    """The input as a whole cannot be read as rows of orders."""


class Row(NamedTuple):
    """A row of the input; ``line`` is the first line that it stands on, counted from 1.

    It has either ``fields`` or a ``reason`` why it is refused.
    """

    line: int
    fields: Mapping[str, Any]
    reason: str = ""


class Lines:
    """The lines of a stream, as text, and how many bytes of it have been read."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.bytes_read = 0
        self.number = 0
        #: Numbers of lines that were too long, and came back empty.
        self.too_long: set[int] = set()
        self._first = self._read()

    @property
    def first(self) -> str:
        """The first line; it is read again with the others."""
        return self._first

    def __iter__(self) -> Iterator[str]:
        line = self._first
        while line:
            self.number += 1
            yield line
            line = self._read()

    def _read(self) -> str:
        line = self._stream.readline(_LONGEST)
        if not self.bytes_read:
            self.bytes_read = len(line)
            line = line.removeprefix(_BOM)
        else:
            self.bytes_read += len(line)
        if len(line) == _LONGEST and not line.endswith(b"\n"):
            while rest := self._stream.readline(_LONGEST):
                self.bytes_read += len(rest)
                if rest.endswith(b"\n"):
                    break
            self.too_long.add(self.number + 1)
            return "\n"
        return line.decode("utf-8", "surrogateescape")


def tell_format(name: str, first_line: str) -> str:
    """Tell ``csv`` from ``jsonl`` by the file's name, else by its first line."""
    if name.endswith((".jsonl", ".ndjson")):
        return "jsonl"
    if name.endswith((".csv", ".tsv")):
        return "csv"
    return "jsonl" if first_line.lstrip().startswith("{") else "csv"


def read_jsonl(lines: Lines, *, columns: Mapping[str, str]) -> Iterator[Row]:
    """Yield the rows of JSON lines: objects with description, reference, metadata and flow.

    Args:
        lines: the input.
        columns: the key that holds a field, by field, where it has another name.
    """
    keys = {columns.get(field, field): field for field in FIELDS}
    for line in lines:
        number = lines.number
        if number in lines.too_long:
            yield Row(number, {}, "is longer than 1 MiB")
        elif line.strip():
            try:
                given = msgspec.json.decode(line)
            except (ValueError, RecursionError) as error:
                yield Row(number, {"text": _printable(line)}, f"is not JSON: {error}")
                continue
            if not isinstance(given, dict):
                yield Row(number, {"text": line.strip()}, "is not a JSON object")
            elif unknown := sorted(given.keys() - keys.keys()):
                yield Row(number, given, f"has a field that no order has: {unknown[0]}")
            else:
                yield Row(number, {keys[key]: value for key, value in given.items()})


def read_csv(lines: Lines, *, columns: Mapping[str, str], with_metadata: bool) -> Iterator[Row]:
    """Yield the rows of CSV with a header; comma, semicolon or tab between the fields.

    Args:
        lines: the input.
        columns: the column that holds a field, by field, where it has another name.
        with_metadata: whether all other columns go into the order's metadata, as text.

    Raises:
        UnusableInputError: a column is missing; those that are there are named.
    """
    csv.field_size_limit(_LONGEST)
    reader = csv.reader(iter(lines), delimiter=max(",;\t", key=lines.first.count))
    header = [name.strip() for name in next(reader, [])]
    names = {field: columns.get(field, field) for field in FIELDS if field != "metadata"}
    needed = {names["description"], *(columns[field] for field in names if field in columns)}
    if missing := sorted(needed - set(header)):
        raise UnusableInputError(
            f"There is no column {missing[0]!r}; there are {', '.join(header) or 'none'}. "
            "Say which one it is with --map description=COLUMN."
        )
    while True:
        line = lines.number + 1
        try:
            values = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield Row(line, {}, f"is not CSV: {error}")
            continue
        if any(number in lines.too_long for number in range(line, lines.number + 1)):
            yield Row(line, {}, "is longer than 1 MiB")
        elif not values:
            continue
        elif len(values) != len(header):
            reason = f"has {len(values)} columns, and the header has {len(header)}"
            yield Row(line, {"values": [_printable(value) for value in values]}, reason)
        else:
            yield _csv_row(line, dict(zip(header, values, strict=True)), names, with_metadata)


def order_of(row: Row, *, tenant: Tenant) -> NewOrder:
    """Return the order that a row describes, with a fresh id; the tenant's flow unless it has one.

    Raises:
        FieldError: a field breaks its rule.
    """
    given = row.fields
    description, reference = given.get("description"), given.get("reference")
    metadata, flow = given.get("metadata"), given.get("flow")
    if not isinstance(description, str):
        raise FieldError("description", "must be text" if description else "is required")
    if not (reference is None or isinstance(reference, str)):
        raise FieldError("reference", "must be text")
    if not (metadata is None or isinstance(metadata, dict)):
        raise FieldError("metadata", "must be an object")
    if not (flow is None or flow in list(Flow)):
        raise FieldError("flow", f"must be {' or '.join(Flow)}")
    return NewOrder(
        id=new_order_id(),
        tenant_id=tenant.id,
        flow=Flow(flow or tenant.flow),
        description=clean_description(description),
        reference=clean_reference(reference),
        metadata=clean_metadata(metadata),
    )


def _csv_row(
    line: int, values: Mapping[str, str], names: Mapping[str, str], with_metadata: bool
) -> Row:
    for column, value in values.items():
        if any(ord(character) in _UNDECODABLE for character in value):
            shown = {name: _printable(text) for name, text in values.items()}
            return Row(line, shown, f"is not UTF-8 in column {column}")
    fields: dict[str, Any] = {"description": values[names["description"]]}
    # An empty cell is how CSV says that there is none.
    for field in ("reference", "flow"):
        if value := values.get(names[field], "").strip():
            fields[field] = value
    if with_metadata:
        fields["metadata"] = {
            name: value for name, value in values.items() if name not in names.values() and value
        }
    return Row(line, fields)


def _printable(text: str) -> str:
    return text.strip().encode("utf-8", "replace").decode()
