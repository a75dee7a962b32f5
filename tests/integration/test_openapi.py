"""The OpenAPI document, and whether the API does as it says."""

import json
import random
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import falcon.inspect
import jsonschema_rs
import pytest
import schemathesis
from api_server import serve
from clients import Caller, Callers
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS
from schemathesis.core.parameters import ParameterLocation
from schemathesis.core.result import Ok

from slimtrack.domain.access import Scope
from slimtrack.domain.order import JOURNEY
from slimtrack.http import problems
from slimtrack.http.openapi.document import document
from slimtrack.http.openapi.operations import OPERATIONS, WHEN

FUZZING = Path(__file__).parents[1] / "fuzzing"

TOKEN = "stk_" + 12 * "0" + "_" + 64 * "0"
AUTHORIZATION = {"Authorization": f"Bearer {TOKEN}"}
#: What a schema cannot say: why a request that is right by the document may be refused.
BEYOND_SCHEMA = (
    "expected int, got float",  # 2.0 is an integer to a schema
    "was used before, for a request",
    "has no event",
    "expected int | null, got float",
    "page by number or by cursor",
    "must name each name once",
    "use the cursor to go further",
    "must not be empty",
    "must be at most 4096 bytes",
    "levels deep",
    "must not be in the future",
    "must not be before 2000",
    "one wrong character makes it none",  # a tracking code's check character
    "must be a time with its zone",  # a leap second, or a year that is no year everywhere
)


def test_the_document_has_every_route_and_every_route_is_in_the_document(
    caller: Caller,
) -> None:
    answer = caller.simulate_get("/openapi.json")
    assert answer.status_code == 200
    assert answer.json == document()
    shown = caller.simulate_get("/docs")
    assert shown.headers["Content-Type"].startswith("text/html")
    assert "<script" not in shown.text
    anchors, targets = (
        set(re.findall(rf'{name}="#?([\w-]+)"', shown.text)) for name in ("href", "id")
    )
    assert anchors
    assert anchors <= targets, "a link leads nowhere"
    assert set(problems.KINDS) == set(WHEN) <= targets
    for path, methods in document()["paths"].items():
        assert path in shown.text
        for method in methods:
            place = path.replace("{order}", "7")
            assert caller.simulate_request(method.upper(), place).status_code != 405
    routes = {route.path for route in falcon.inspect.inspect_routes(caller.app)}
    assert routes - {"/docs", "/openapi.json"} == set(document()["paths"])


def test_every_example_is_as_its_schema_says() -> None:
    api = document()
    shown: list[tuple[Any, Any]] = []

    def collect(part: Any) -> None:
        if isinstance(part, dict):
            schema = part.get("schema", part)
            examples = part.get("examples", ())
            if isinstance(examples, dict):
                examples = [each["value"] for each in examples.values()]
            shown.extend((schema, example) for example in examples)
            if "example" in part:
                shown.append((schema, part["example"]))
        for each in part.values() if isinstance(part, dict) else part:
            if isinstance(each, (dict, list)):
                collect(each)

    collect(api)
    assert len(shown) > 100
    for schema, example in shown:
        whole = {**schema, "components": api["components"]}
        assert jsonschema_rs.validator_for(whole, validate_formats=True).is_valid(example), example


def is_wrong(case: schemathesis.Case[Any], location: ParameterLocation) -> bool:
    component = case.meta and case.meta.components.get(location)
    return bool(component and component.mode.is_negative)


def beyond_the_schema(response: schemathesis.Response) -> Iterator[str]:
    """Name the checks that do not suit an answer, because a schema cannot say what was wrong."""
    detail = response.json().get("detail", "") if response.status_code >= 400 else ""
    if response.status_code == 412 or any(reason in detail for reason in BEYOND_SCHEMA):
        yield "positive_data_acceptance"
    if '"refused":' in response.text and '"refused":0' not in response.text:
        yield "negative_data_rejection"  # each row of many has an answer of its own


@pytest.mark.timeout(900)
def test_what_the_document_allows_is_accepted_and_all_else_refused(
    callers: Callers, pytestconfig: pytest.Config
) -> None:
    count = pytestconfig.getoption("fuzz_cases") // 5
    callers.access.store_key(TOKEN, tenant="default", name="fuzzer", scopes=list(Scope))
    caller = callers.with_token(TOKEN)
    some = [caller.place()["id"] for _ in range(20)]
    for order in some[:10]:  # most reports suit an order that is out for delivery
        for status in JOURNEY[:3]:
            assert caller.command(order, "reports", {"status": status}).status_code == 200
    choice = random.Random(7)  # noqa: S311 - a choice
    schema = schemathesis.openapi.from_wsgi("/openapi.json", caller.app)
    answered: Counter[tuple[str, int]] = Counter()
    loaded = list(schema.get_all_operations())
    operations = [each.ok() for each in loaded if isinstance(each, Ok)]
    assert len(operations) == len(loaded) == len(OPERATIONS)
    cases = st.one_of(
        [each.as_strategy(generation_mode=mode) for each in operations for mode in GenerationMode]
    )

    @given(case=cases)
    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def check(case: schemathesis.Case[Any]) -> None:
        # What an empty list adds to a query is nothing.
        assume([] not in (case.query or {}).values())
        if case.path_parameters and choice.random() < 0.7:
            case.path_parameters["order"] = choice.choice(some)
        # A header that is wrong on purpose may be the key.
        headers = {} if is_wrong(case, ParameterLocation.HEADER) else AUTHORIZATION
        response = case.call(headers=headers)
        answered[case.operation.label, response.status_code] += 1
        excluded: list[Any] = [CHECKS.get_one(name) for name in beyond_the_schema(response)]
        case.validate_response(response, excluded_checks=excluded, headers=headers)

    check()

    print(answered)  # noqa: T201 - shown where the test fails
    assert sum(answered.values()) >= count
    assert not [key for key in answered if key[1] >= 500]
    assert {label for label, _ in answered} == {each.label for each in operations}
    assert answered["POST /api/orders", 201] > count / 100
    assert answered["POST /api/orders/{order}/reports", 200]


@pytest.mark.timeout(900)
def test_all_checks_of_the_fuzzer_pass_over_http(
    environment: dict[str, str], callers: Callers, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    count = pytestconfig.getoption("fuzz_cases")
    callers.access.store_key(TOKEN, tenant="default", name="fuzzer", scopes=list(Scope))
    settings = {"SLIMTRACK_AUTH": "on", "SLIMTRACK_RATE_LIMIT": "0"}
    with serve({**environment, **settings}, tmp_path, workers=1) as server:
        report = tmp_path / "report.json"
        done = subprocess.run(
            [
                *(Path(sys.executable).with_name("schemathesis"), "--config-file"),
                *(FUZZING / "schemathesis.toml", "run"),
                f"http://127.0.0.1:{server.port}/openapi.json",
                *("--header", f"Authorization: Bearer {TOKEN}", "--checks", "all"),
                *("--phases", "examples,coverage,fuzzing,stateful"),
                # By operation; of some there are fewer that differ.
                *("--max-examples", str(1 + 5 * count // (4 * len(OPERATIONS)))),
                *("--generation-database", "none", "--no-color", "--seed", "7"),
                *("--report", "json", "--report-json-path", report),
            ],
            env={**environment, "SCHEMATHESIS_HOOKS": "hooks", "PYTHONPATH": str(FUZZING)},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stdout
    told = json.loads(report.read_text())
    print(told["test_cases"])  # noqa: T201 - to be seen with -s
    assert told["operations"]["tested"] == len(OPERATIONS)
    assert {phase["status"] for phase in told["phases"].values()} == {"success"}
    assert told["test_cases"]["generated"] >= count
