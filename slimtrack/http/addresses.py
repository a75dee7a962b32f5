"""Who asks, by the address that a request comes from, and which names mean this machine."""

from collections.abc import Collection
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final

import falcon
from falcon import uri

from slimtrack.settings import Network

#: Bits of an IPv6 address that one subscriber has at least; the others they choose.
_SUBSCRIBER: Final = 64


class Proxies:
    """Those whose word is taken for whom they ask for.

    Args:
        trusted: their addresses.
    """

    def __init__(self, trusted: Collection[Network]) -> None:
        self._trusted = trusted

    def asker_of(self, req: falcon.Request) -> str:
        """Return who asks: the last whom a trusted proxy names, since all others may be made up.

        An IPv6 address counts as its subscriber's network.
        """
        text = req.remote_addr
        named = (req.get_header("X-Forwarded-For") or "").rpartition(",")[2].strip()
        if named and self._trusts(text):
            text = named
        address = _address(text)
        if isinstance(address, IPv6Address):
            return str(ip_network((address, _SUBSCRIBER), strict=False))
        return str(address) if address else "unknown"

    def _trusts(self, text: str) -> bool:
        address = _address(text)
        if address is None:
            return not text  # a socket of this machine's has none
        return any(address in network for network in self._trusted)


def is_this_machine(text: str) -> bool:
    """Tell whether a request's address is one of this machine's."""
    address = _address(text)
    return address.is_loopback if address else not text


def means_this_machine(host: str) -> bool:
    """Tell whether a Host header can mean no other machine, whatever a name server says."""
    try:
        name, _ = uri.parse_host(host)
    except ValueError:
        return False
    address = _address(name)
    return address.is_loopback if address else name.lower() == "localhost"


def _address(text: str) -> IPv4Address | IPv6Address | None:
    """Read an address; an IPv4 one in the clothes of IPv6 is still that."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address
