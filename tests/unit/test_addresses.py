"""Who asks, and what is this machine."""

from ipaddress import ip_network

import falcon
import falcon.testing
import pytest

from slimtrack.http.addresses import Proxies, is_this_machine, means_this_machine


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        ("203.0.113.9", "198.51.100.1", "203.0.113.9"),  # anybody may say this
        ("10.0.0.1", "198.51.100.1, 198.51.100.2", "198.51.100.2"),
        ("::ffff:10.0.0.1", "198.51.100.2", "198.51.100.2"),
        ("172.16.3.4", "198.51.100.2", "198.51.100.2"),
        ("172.32.3.4", "198.51.100.2", "172.32.3.4"),
        ("", "198.51.100.2", "198.51.100.2"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", "<script>", "unknown"),
        ("2001:db8::1", "", "2001:db8::/64"),
        ("::ffff:203.0.113.9", "", "203.0.113.9"),
        ("10.0.0.1", "::ffff:203.0.113.9", "203.0.113.9"),
    ],
)
def test_only_a_trusted_proxy_is_believed(peer: str, forwarded: str, expected: str) -> None:
    proxies = Proxies([ip_network("10.0.0.1"), ip_network("172.16.0.0/12")])
    environment = falcon.testing.create_environ(headers={"X-Forwarded-For": forwarded})
    environment["REMOTE_ADDR"] = peer
    assert proxies.asker_of(falcon.Request(environment)) == expected


def test_this_machine_is_known_in_any_clothes() -> None:
    for address in ("127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", ""):
        assert is_this_machine(address), address
    for address in ("10.0.0.7", "0.0.0.0", "::ffff:10.0.0.7", "2001:db8::1", "nonsense"):  # noqa: S104 - a caller
        assert not is_this_machine(address), address


def test_only_names_that_nobody_can_lead_elsewhere_mean_this_machine() -> None:
    for host in ("localhost", "LocalHost:8080", "127.0.0.1:80", "127.1.2.3", "[::1]:80", "[::1]"):
        assert means_this_machine(host), host
    for host in (
        *("rebound.example", "rebound.example:8080", "localhost.example", "127.0.0.1.example"),
        *("", ":80", "0.0.0.0", "localhost:x", "10.0.0.1", "[::2]:80", "localhost@a", "["),  # noqa: S104 - a name
    ):
        assert not means_this_machine(host), host
