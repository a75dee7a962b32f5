"""What is said of variables, files of secrets and names that mean nothing."""

import os
from pathlib import Path

import pytest

from slimtrack.domain.errors import SettingsError
from slimtrack.environment import Found, Source, find, find_unknown, mask

KNOWN = ("DATABASE_URL", "DATABASE_URL_FILE", "SLIMTRACK_RATE_LIMIT", "SLIMTRACK_API_THREADS")


def fault_of(environment: dict[str, str]) -> str:
    with pytest.raises(SettingsError) as caught:
        find("DATABASE_URL", environment, secret=True)
    [fault] = caught.value.faults
    return fault


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"hush", "hush"),
        (b"hush\n", "hush"),
        (b"hush\r\n", "hush"),
        (b"hush\n\n", "hush\n"),
        (b" h\xc3\xbcsh ", " hüsh "),
    ],
)
def test_one_newline_at_the_end_of_a_file_is_no_part_of_the_secret(
    content: bytes, text: str, tmp_path: Path
) -> None:
    file = tmp_path / "secret"
    file.write_bytes(content)

    found = find("DATABASE_URL", {"DATABASE_URL_FILE": str(file)}, secret=True)

    assert found == Found(text, Source.FILE, str(file))


def test_an_empty_variable_names_no_file() -> None:
    environment = {"DATABASE_URL": "hush", "DATABASE_URL_FILE": ""}
    assert find("DATABASE_URL", environment, secret=True) == Found("hush", Source.ENVIRONMENT)
    assert find("DATABASE_URL", {"DATABASE_URL_FILE": ""}, secret=True) is None


def test_a_file_of_no_use_is_a_line_without_path_and_content(tmp_path: Path) -> None:
    for name, content in {"empty": b"", "newline": b"\n", "binary": b"hush\xff"}.items():
        (tmp_path / name).write_bytes(content)
    os.mkfifo(tmp_path / "pipe")
    reasons = {
        "empty": "is empty",
        "newline": "is empty",
        "binary": "is not text in UTF-8",
        "pipe": "is not a regular file",
        ".": "is not a regular file",
        "missing": "cannot be read: No such file or directory",
        "empty/hush": "cannot be read: Not a directory",
        "hush" * 100: "cannot be read: File name too long",
    }
    for name, reason in reasons.items():
        fault = fault_of({"DATABASE_URL_FILE": f"{tmp_path}/{name}"})
        assert fault == f"DATABASE_URL_FILE names a file that {reason}."


def test_a_url_in_place_of_a_path_is_not_told() -> None:
    fault = fault_of({"DATABASE_URL_FILE": "postgresql://slimtrack:hush@db.example/x"})
    assert fault == (
        "DATABASE_URL_FILE names a file that cannot be read: No such file or directory."
    )


def test_a_secret_that_is_set_twice_is_a_fault() -> None:
    fault = fault_of({"DATABASE_URL": "hush", "DATABASE_URL_FILE": "/hush"})
    assert fault == "DATABASE_URL and DATABASE_URL_FILE are both set: unset one of them."


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("SLIMTRACK_RATE_LIMTI", "SLIMTRACK_RATE_LIMIT"),
        ("SLIMTRACK_THREADS", "SLIMTRACK_API_THREADS"),
        ("SLIMTRACK_DATABASE_URL", "DATABASE_URL"),
        ("SLIMTRACK_DATABASE_URL_FILE", "DATABASE_URL_FILE"),
        ("SLIMTRACK_XYZ", None),
    ],
)
def test_a_name_that_means_nothing_is_told_with_the_one_most_like_it(
    name: str, nearest: str | None
) -> None:
    assert find_unknown({name: "1"}, known=KNOWN) == {name: nearest}


def test_names_of_others_and_empty_variables_are_left_alone() -> None:
    environment = {
        "SLIMTRACK_RATE_LIMIT": "1",
        "SLIMTRACK_RATE_LIMTI": "",
        "DATABASE_UR": "1",
        "PATH": "/bin",
    }
    assert find_unknown(environment, known=KNOWN) == {}


def test_what_kubernetes_sets_for_a_service_of_our_name_is_left_alone() -> None:
    links = {
        f"SLIMTRACK_API_{name}": "1"
        for name in (
            *("SERVICE_HOST", "SERVICE_PORT", "SERVICE_PORT_HTTP", "PORT"),
            *("PORT_80_TCP", "PORT_80_TCP_ADDR", "PORT_80_TCP_PORT", "PORT_80_TCP_PROTO"),
        )
    }
    assert find_unknown(links, known=KNOWN) == {}
    # Without a service, it is somebody's mistake.
    assert list(find_unknown({"SLIMTRACK_API_PORT": "80"}, known=KNOWN)) == ["SLIMTRACK_API_PORT"]


@pytest.mark.parametrize(
    ("secret", "shown"),
    [
        ("postgresql://u:hush@h:5432/d", "postgresql://u:***@h:5432/d"),
        ("redis://:hush@h/0", "redis://:***@h/0"),
        ("amqp://h:5672/", "amqp://h:5672/"),
        ("https://hush@h/1", "https://***@h/1"),
        ("postgresql://u:hu@sh@h/d", "postgresql://u:***@h/d"),
        ("postgresql://u:hu/sh@h/d", "postgresql://u:***@h/d"),
        ("postgresql://u:1#hush@h/d", "postgresql://u:***@h/d"),
        ("postgresql://u:h?ush@h/d", "postgresql://u:***@h/d"),
        ("postgresql://h/d?user=u&password=hush", "postgresql://h/d?user=u&password=***"),
        ("postgresql://h/d?sslPassword=hush&x=1", "postgresql://h/d?sslPassword=***&x=1"),
        ("hush", "***"),
    ],
)
def test_a_secret_is_shown_without_its_password(secret: str, shown: str) -> None:
    assert mask(secret) == shown
