"""Tracking codes, as people write and mistype them."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slimtrack.domain.tracking_code import format_code, parse_code

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
numbers = st.integers(0, 2**60 - 1)


@given(numbers)
def test_a_code_is_read_as_it_is_written(number: int) -> None:
    code = format_code(number)
    assert len(code) == 19
    assert (
        parse_code(code) == parse_code(code.lower()) == parse_code(code.replace("-", "")) == number
    )
    assert parse_code(code[3:]) == number
    assert parse_code(code[3:].replace("0", "o").replace("1", "I")) == number


@given(numbers)
def test_a_wrong_character_and_two_swapped_ones_are_noticed(number: int) -> None:
    code = format_code(number).replace("-", "")[2:]
    for place, right in enumerate(code):
        for wrong in ALPHABET.replace(right, ""):
            assert parse_code(code[:place] + wrong + code[place + 1 :]) is None
    for place in range(len(code) - 1):
        first, second = code[place], code[place + 1]
        if first != second:
            assert parse_code(code[:place] + second + first + code[place + 2 :]) is None


@pytest.mark.parametrize(
    "text", ["", "SL", "SL-", "7K3F", "SL-UUUU-UUUU-UUUU-U", "XX-0000-0000-0000-0", "\u0660" * 13]
)
def test_anything_else_is_no_code(text: str) -> None:
    assert parse_code(text) is None


def test_few_guesses_are_codes() -> None:
    guesses = random.Random(7)  # noqa: S311 - guesses
    hits = sum(
        parse_code("".join(guesses.choices(ALPHABET, k=13))) is not None for _ in range(3200)
    )
    assert 50 < hits < 150  # one in 32
