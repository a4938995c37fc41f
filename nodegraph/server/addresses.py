"""Which addresses of the network are anybody's, and which the own."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from nodegraph.errors import Problem, ValidationError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_NOT_FOR_ALL = tuple(map(ipaddress.ip_network, ("192.0.0.0/24", "192.88.99.0/24")))
"""Protocol assignments and 6to4 relays, which `is_global` takes for anybody's."""
_UNICAST = ipaddress.ip_network("2000::/3")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


@dataclass(frozen=True, slots=True)
class Internal:
    """A part of the own network that may be reached all the same: its addresses, and one port or all."""

    network: ipaddress.IPv4Network | ipaddress.IPv6Network
    port: int | None = None

    @staticmethod
    def of(text: str) -> Internal:
        """`10.0.0.0/8`, `127.0.0.1:9000`, `[::1]:9000`. Raises ValidationError."""
        if text.startswith("["):
            host, closed, rest = text[1:].partition("]")
            right = closed != "" and (rest == "" or rest.startswith(":"))
            port = rest[1:] if rest else None
        elif text.count(":") > 1:
            host, port, right = text, None, True
        else:
            host, colon, rest = text.partition(":")
            port, right = rest if colon else None, True
        try:
            network = ipaddress.ip_network(host, strict=False)
            number = int(port) if port is not None else None
            if not right or (number is not None and not 0 < number < 65_536):
                raise ValueError
        except ValueError:
            text = repr(text[:100])
            allowed = "numbers such as 10.0.0.0/8, 127.0.0.1:9000 or [::1]:9000"
            problem = Problem("bad_address", "this is no part of a network.", found=text, allowed=allowed)
            raise ValidationError(problem) from None
        return Internal(network, number)

    def holds(self, address: Address, port: int) -> bool:
        """Whether an address and port lie in it."""
        return (
            self.port in (None, port) and address.version == self.network.version and address in self.network
        )


def is_public(address: Address) -> bool:
    """Whether an address is one that anybody may reach: of the internet, not of this machine or its network.

    An IPv6 address that stands for an IPv4 one (mapped, 6to4, NAT64) is as public as that.
    """
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if inner is None and address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
        if inner is not None:
            return is_public(inner)
        return address in _UNICAST and address.is_global
    return (
        address.is_global
        and not (address.is_multicast or address.is_reserved)
        and not any(address in network for network in _NOT_FOR_ALL)
    )
