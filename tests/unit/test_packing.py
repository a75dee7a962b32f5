"""How due rows become messages."""

import json

from hypothesis import given
from hypothesis import strategies as st

from slimtrack.domain.order import STAGES, Status
from slimtrack.outbox.packing import pack
from slimtrack.routing import BY_STAGE
from slimtrack.sql.outbox import DueRow

ROWS = st.lists(
    st.builds(
        DueRow,
        id=st.integers(1, 2**63 - 1),
        stage=st.sampled_from(STAGES),
        publications=st.sampled_from([0, 0, 0, 1, 7]),
    ),
    unique_by=lambda row: row.id,
    max_size=60,
)


def fresh(ids: range, stage: Status = Status.PROCESSING) -> list[DueRow]:
    return [DueRow(row_id, stage, 0) for row_id in ids]


def test_nothing_due_is_no_message() -> None:
    assert pack([], set_size=100) == []


def test_rows_travel_in_their_order_in_sets_of_the_size_given() -> None:
    messages = pack(fresh(range(250, 0, -1)), set_size=100)

    assert [len(message.row_ids) for message in messages] == [100, 100, 50]
    assert [each for message in messages for each in message.row_ids] == list(range(250, 0, -1))


def test_rows_of_a_single_stage_travel_alone() -> None:
    rows = [*fresh(range(1, 4)), *fresh(range(4, 8), Status.DELIVERED)]
    messages = pack(rows, set_size=100, single={Status.PROCESSING})

    assert [list(message.row_ids) for message in messages] == [[1], [2], [3], [4, 5, 6, 7]]


def test_each_stage_has_its_own_messages_queue_and_actor() -> None:
    rows = fresh(range(1, 3)) + fresh(range(3, 5), Status.DELIVERED) + fresh(range(5, 6))

    assert [
        (message.queue_name, message.actor_name, list(message.row_ids))
        for message in pack(rows, set_size=100)
    ] == [
        ("orders.processing", "start_processing", [1, 2, 5]),
        ("orders.delivered", "complete_delivery", [3, 4]),
    ]


def test_rows_that_were_published_before_travel_apart_and_their_messages_say_so() -> None:
    rows = [*fresh(range(1, 4)), DueRow(9, Status.PROCESSING, 1), DueRow(8, Status.PROCESSING, 2)]

    messages = pack(rows, set_size=100)

    assert [(list(each.row_ids), each.again) for each in messages] == [
        ([1, 2, 3], False),
        ([9, 8], True),
    ]
    assert [json.loads(each.encode())["kwargs"] for each in messages] == [{}, {"again": True}]


def test_every_message_has_an_id_of_its_own() -> None:
    messages = pack(fresh(range(1, 21)), set_size=1)

    assert len({message.id for message in messages}) == 20


@given(rows=ROWS, set_size=st.integers(1, 10))
def test_every_row_is_in_exactly_one_message_and_in_the_right_one(
    rows: list[DueRow], set_size: int
) -> None:
    messages = pack(rows, set_size=set_size)

    packed = [(message, row_id) for message in messages for row_id in message.row_ids]
    assert sorted(row_id for _, row_id in packed) == sorted(row.id for row in rows)
    by_id = {row.id: row for row in rows}
    for message, row_id in packed:
        assert message.queue_name == BY_STAGE[by_id[row_id].stage].queue_name
        assert message.again == (by_id[row_id].publications > 0)
        assert len(message.row_ids) <= set_size
    for stage in STAGES:
        for again in (False, True):
            mine = [
                row.id for row in rows if row.stage is stage and (row.publications > 0) == again
            ]
            sets = [
                list(message.row_ids)
                for message in messages
                if message.queue_name == BY_STAGE[stage].queue_name and message.again == again
            ]
            assert sets == [mine[at : at + set_size] for at in range(0, len(mine), set_size)]
