"""What requests may say, without a server."""

import json
from typing import Any
from uuid import UUID

import pytest

from slimtrack.domain.access import ANYBODY
from slimtrack.http import queries, schemas
from slimtrack.http.problems import Problem


def read_page(parameters: dict[str, str | list[str]]) -> queries.Page:
    return queries.read_list_query(parameters, tenant_id=1).page


def read(body: bytes) -> Any:
    return schemas.read_new_order(body, correlation_id="c", principal=ANYBODY)


def order(**fields: Any) -> bytes:
    return json.dumps({"description": "Two boxes", **fields}).encode()


def metadata(text: str) -> bytes:
    return f'{{"description":"Two boxes","metadata":{text}}}'.encode()


MALFORMED = {
    "empty": (b"", "empty"),
    "white space": (b" \n", "empty"),
    "cut": (b'{"description":"a"', "truncated"),
    "two documents": (order() + order(), "trailing"),
    "a comment": (b"// a\n" + order(), "not JSON"),
    "single quotes": (b"{'description':'a'}", "keys must be strings"),
    "a trailing comma": (b'{"description":"a",}', "trailing comma"),
    "a raw line feed": (b'{"description":"a\n"}', "invalid character"),
    "a form": (b"description=a", "not JSON"),
    "a byte order mark": (b"\xef\xbb\xbf" + order(), "byte order mark"),
    "UTF-16": (order().decode().encode("utf-16"), "not JSON"),
    "Latin-1": ('{"description":"é"}'.encode("latin-1"), "not UTF-8"),
    "an overlong encoding": (b'{"description":"\xc0\x80"}', "not UTF-8"),
    "a surrogate in UTF-8": (b'{"description":"\xed\xa0\x80"}', "not UTF-8"),
    "half of a pair": (rb'{"description":"\ud83d"}', "one of a pair"),
    "the other half": (rb'{"description":"\ude00a"}', "one of a pair"),
    "half of a pair as a name": (metadata(r'{"\ud83d":1}'), "one of a pair"),
    "NaN": (metadata('{"a":NaN}'), "invalid character"),
    "Infinity": (metadata('{"a":-Infinity}'), "not JSON"),
    "an octal number": (metadata('{"a":01}'), "invalid number"),
    "100,000 levels": (metadata('{"a":' + "[" * 100_000 + "]" * 100_000 + "}"), "too deeply"),
    "too deep, then replaced": (
        order()[:-1]
        + b',"metadata":'
        + b'{"a":' * 5_000
        + b"1"
        + b"}" * 5_000
        + b',"metadata":{}}',
        "too deeply",
    ),
}


@pytest.mark.parametrize(("body", "reason"), MALFORMED.values(), ids=MALFORMED)
def test_a_body_that_is_not_json_is_refused(body: bytes, reason: str) -> None:
    with pytest.raises(Problem) as refused:
        read(body)
    assert refused.value.status_code == 400
    assert refused.value.kind == "malformed-body"
    assert reason in str(refused.value.description)


INVALID = {
    "a list": (b"[]", "", "array"),
    "null": (b"null", "", "null"),
    "a string": (b'"a"', "", "str"),
    "100,000 lists": (b"[" * 100_000, "", "array"),
    "nothing in it": (b"{}", "description", "required"),
    "description null": (order(description=None), "description", "null"),
    "description a boolean": (order(description=True), "description", "bool"),
    "description a number": (order(description=1), "description", "int"),
    "description a list": (order(description=["a"]), "description", "array"),
    "description empty": (order(description=""), "description", "empty"),
    "description blank": (order(description=" \t\n\u00a0\u3000"), "description", "empty"),
    "description invisible": (order(description="\u200b \ufeff"), "description", "empty"),
    "description too long": (order(description="é" * 501), "description", "500"),
    "description with NUL": (order(description="a\0b"), "description", "U+0000"),
    "description with ESC": (order(description="a\x1b[2Jb"), "description", "U+001B"),
    "description with CR": (order(description="a\r\nb"), "description", "U+000D"),
    "description with C1": (order(description="a\x9bb"), "description", "U+009B"),
    "reference a number": (order(reference=1), "reference", "int"),
    "reference false": (order(reference=False), "reference", "bool"),
    "reference empty": (order(reference=""), "reference", "empty"),
    "reference blank": (order(reference="  "), "reference", "empty"),
    "reference too long": (order(reference="a" * 101), "reference", "100"),
    "reference with a line": (order(reference="a\nb"), "reference", "U+000A"),
    "reference with a tab": (order(reference="a\tb"), "reference", "U+0009"),
    "reference with a line separator": (order(reference="a\u2028b"), "reference", "U+2028"),
    "metadata a list": (order(metadata=[]), "metadata", "array"),
    "metadata a string": (order(metadata="{}"), "metadata", "str"),
    "metadata too large": (order(metadata={"a": "é" * 2048}), "metadata", "4096"),
    "metadata too deep": (metadata('{"a":' * 33 + "1" + "}" * 33), "metadata", "32 levels"),
    "metadata too deep in lists": (
        metadata('{"a":' + "[" * 900 + "]" * 900 + "}"),
        "metadata",
        "32",
    ),
    "metadata with NUL": (order(metadata={"a": ["\0"]}), "metadata", "U+0000"),
    "metadata with NUL in a name": (order(metadata={"a": {"\0": 1}}), "metadata", "U+0000"),
    "metadata with 1e400": (metadata('{"a":1e400}'), "metadata", "out of range"),
    "metadata with 64 bits and one": (metadata(f'{{"a":[{2**63}]}}'), "metadata", "64 bits"),
    "metadata with a huge float": (metadata('{"a":-1e30}'), "metadata", "64 bits"),
    "metadata with a huge integer": (
        metadata(f'{{"a":-1{"0" * 5000}}}'),
        "metadata",
        "out of range",
    ),
    "an unknown field": (order(color="red"), "color", "not a field"),
    "the caller's status": (order(status="delivered"), "status", "not a field"),
    "the caller's id": (order(id="01938a5e-7c1d-7b8e-9a57-3f6d2c40b1e8"), "id", "not a field"),
    "the caller's version": (order(version=9), "version", "not a field"),
    "the caller's tenant": (order(tenant_id=2), "tenant_id", "not a field"),
    "another case": (order(Reference="a"), "Reference", "not a field"),
    "an endless name": (order(**{"a" * 60_000: 1}), "a" * 100, "not a field"),
    "a description twice": (b'{"description":"a","description":"b"}', "description", "once"),
    "a name twice, once escaped": (
        rb'{"description":"a","descripti\u006fn":"b"}',
        "description",
        "once",
    ),
    "metadata twice": (b'{"description":"a","metadata":{},"metadata":{}}', "metadata", "once"),
    "a name in metadata twice": (metadata('{"a":{"b":1,"b":2}}'), "b", "once"),
}


@pytest.mark.parametrize(("body", "field", "reason"), INVALID.values(), ids=INVALID)
def test_a_body_that_is_no_order_is_refused_with_the_field(
    body: bytes, field: str, reason: str
) -> None:
    with pytest.raises(Problem) as refused:
        read(body)
    assert refused.value.status_code == 422
    assert refused.value.kind == "invalid-order"
    (fault,) = refused.value.members["errors"]
    assert fault["field"] == field
    assert reason in fault["message"]
    assert fault["message"] in str(refused.value.description)


def test_every_wrong_field_is_named_at_once() -> None:
    with pytest.raises(Problem) as refused:
        read(order(description=" ", reference="", metadata={"a": "\0"}))
    fields = [fault["field"] for fault in refused.value.members["errors"]]
    assert fields == ["description", "reference", "metadata"]


def test_white_space_around_text_is_cut_off() -> None:
    new = read(order(description="\u3000 Two\tboxes,\n fragile \n", reference=" A 1 "))
    assert new.description == "Two\tboxes,\n fragile"
    assert new.reference == "A 1"


def test_null_is_the_same_as_nothing() -> None:
    new = read(order(reference=None, metadata=None))
    assert new.reference is None
    assert new.metadata == {}


@pytest.mark.parametrize(
    "text",
    ["x" * 500, "é" * 500, "😀" * 500, "e\u0301", "שלום", "a: b", "日本語", "👩‍👩‍👧‍👦"],
)
def test_any_script_is_taken_and_counted_in_characters(text: str) -> None:
    assert read(order(description=text)).description == text


def test_metadata_is_taken_as_it_is() -> None:
    given: dict[str, Any] = {
        "a:b": [True, None, 0.5, -(2**63), 2**63 - 1, "\x1b\n", {"é": {}}],
        "time": "12:00:00",
        "largest": "x" * 3900,
    }
    assert read(order(metadata=given)).metadata == given


def test_two_orders_never_get_the_same_id() -> None:
    assert read(order()).id != read(order()).id


def test_a_page_has_defaults() -> None:
    assert read_page({}) == (1, 10)
    assert read_page({"page": "3", "page_size": "100"}) == (3, 100)
    assert read_page({"page": "1000"}) == (1000, 10)


@pytest.mark.parametrize("name", ["page", "page_size"])
@pytest.mark.parametrize(
    "value",
    [
        *("", "0", "-1", "+1", "1.0", "1e3", "1_0", " 1", "0x1", "NaN", "a", "1,2"),
        *("\u0663", "\uff11", "\u00b2"),  # Arabic three, full-width one, superscript two
        *("10001", "9" * 19, "9" * 5000),
    ],
)
def test_a_page_number_in_an_odd_notation_or_out_of_range_is_refused(name: str, value: str) -> None:
    with pytest.raises(Problem) as refused:
        read_page({name: value})
    assert refused.value.status_code == 400
    assert refused.value.kind == "invalid-query"
    assert [fault["field"] for fault in refused.value.members["errors"]] == [name]


def test_pages_by_number_end_at_the_ten_thousandth_order() -> None:
    assert read_page({"page": "10000", "page_size": "1"}) == (10_000, 1)
    with pytest.raises(Problem) as refused:
        read_page({"page": "101", "page_size": "100"})
    [fault] = refused.value.members["errors"]
    assert fault["field"] == "page"
    assert "cursor" in fault["message"]


def test_a_page_size_has_a_limit() -> None:
    with pytest.raises(Problem, match="400"):
        read_page({"page_size": "101"})


def test_a_parameter_that_is_unknown_or_comes_twice_is_refused() -> None:
    with pytest.raises(Problem) as refused:
        read_page({"page": ["1", "1"], "state": "delivered"})
    assert {fault["field"] for fault in refused.value.members["errors"]} == {"page", "state"}


def test_an_id_is_read_in_either_case() -> None:
    text = "01938A5E-7c1d-7b8e-9a57-3f6d2c40b1e8"
    assert queries.read_order(text) == UUID(text)


@pytest.mark.parametrize(
    "text",
    [
        "7",
        "",
        "01938a5e7c1d7b8e9a573f6d2c40b1e8",
        "{01938a5e-7c1d-7b8e-9a57-3f6d2c40b1e8}",
        "urn:uuid:01938a5e-7c1d-7b8e-9a57-3f6d2c40b1e8",
        "01938a5e-7c1d-7b8e-9a573f6d-2c40b1e8",
        "01938a5e-7c1d-7b8e-9a57-3f6d2c40b1_8",
        "01938a5e-7c1d-7b8e-9a57-3f6d2c40b1e\u0663",
        "\uff101938a5e-7c1d-7b8e-9a57-3f6d2c40b1e8",
        "01938a5e-7c1d-7b8e-9a57-3f6d2c40b1e8 ",
        "01938a5e-7c1d-7b8e-9a57-3f6d2c40b1eg",
        "01938a5e-7c1d-7b8e-9a57-3f6d2c40b1e8\0",
    ],
)
def test_an_id_in_an_odd_notation_is_not_found(text: str) -> None:
    with pytest.raises(Problem) as refused:
        queries.read_order(text)
    assert refused.value.status_code == 404
    assert "8, 4, 4, 4 and 12" in str(refused.value.description)
