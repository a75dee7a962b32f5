"""Tracking codes: what people type and read over the phone to find an order.

A code like ``SL-7K3F-9QXM-2VPD-A`` is 60 random bits in Crockford's base 32 (no I, L, O or U) and a
check character over them. The check character is the sum of the digits, each times its own power
of a primitive element of GF(32) (x^5 + x^2 + 1), as in a Reed-Solomon code: it differs after
every single wrong character and every swap of two different ones.
"""

from typing import Final

_ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_VALUES: Final = {
    **{character: value for value, character in enumerate(_ALPHABET)},
    "O": 0,  # what people take it for
    "I": 1,
    "L": 1,
}
_PREFIX: Final = "SL"
_DIGITS: Final = 12
#: What people write between the groups.
_SEPARATORS: Final = str.maketrans("", "", "- ")


def format_code(number: int) -> str:
    """Return the code of a tracking number (0 to 2^60 - 1)."""
    a, b, c, d, e, f = pairs = [number >> shift & 1023 for shift in (50, 40, 30, 20, 10, 0)]
    check = 0
    for pair in pairs:
        check = _CHECKS[pair ^ check << 5]
    digits = _PAIRS
    return (
        f"{_PREFIX}-{digits[a]}{digits[b]}-{digits[c]}{digits[d]}-{digits[e]}{digits[f]}"
        f"-{_ALPHABET[check]}"
    )


def parse_code(text: str) -> int | None:
    """Return the tracking number of a code in any case, with or without dashes and prefix.

    None for what is no code, or has a wrong character.
    """
    plain = text.translate(_SEPARATORS).upper()
    if len(plain) == len(_PREFIX) + _DIGITS + 1:
        if not plain.startswith(_PREFIX):
            return None
        plain = plain.removeprefix(_PREFIX)
    values = [_VALUES.get(character, -1) for character in plain]
    if len(values) != _DIGITS + 1 or -1 in values or _check_of(values[:-1]) != values[-1]:
        return None
    number = 0
    for value in values[:-1]:
        number = number << 5 | value
    return number


def _check_of(values: list[int]) -> int:
    check = 0
    for value in values:
        check = _doubled(check ^ value)
    return check


def _doubled(element: int) -> int:
    """Multiply by the primitive element x of GF(32)."""
    return element << 1 ^ (0b100101 if element & 16 else 0)


#: Two digits at a time, as they are written, and the check character of a code of these two.
_PAIRS: Final = [first + second for first in _ALPHABET for second in _ALPHABET]
_CHECKS: Final = [_check_of([pair >> 5, pair & 31]) for pair in range(1024)]
