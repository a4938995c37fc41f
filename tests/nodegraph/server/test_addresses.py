"""Which addresses are anybody's, and how parts of the own network are written."""

from __future__ import annotations

import ipaddress

import pytest

from nodegraph.errors import ValidationError
from nodegraph.server.addresses import Internal, is_public

PUBLIC = ("93.184.216.34", "1.1.1.1", "2606:2800:220:1::1", "64:ff9b::5db8:d822", "2002:5db8:d822::1")
OWN = (
    *("0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "127.0.0.1", "127.255.255.254", "169.254.169.254"),
    *("172.16.0.1", "172.31.255.255", "192.0.0.8", "192.0.2.1", "192.88.99.1", "192.168.1.1", "198.18.0.1"),
    *("198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255"),
    *("::", "::1", "::7f00:1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "64:ff9b:1::1"),
    *("100::1", "2001::1", "2001:db8::1", "2002:7f00:1::", "2002:c0a8:101::1", "fc00::1", "fd12::1"),
    *("fe80::1", "fec0::1", "ff02::1", "4000::1"),
)


@pytest.mark.parametrize("address", PUBLIC)
def test_addresses_of_the_internet(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", OWN)
def test_addresses_that_are_not_anybodys(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        ("127.0.0.1:9000", ("127.0.0.1", 9000), ("127.0.0.1", 9001)),
        ("127.0.0.1", ("127.0.0.1", 1), ("127.0.0.2", 1)),
        ("10.0.0.0/8", ("10.9.8.7", 80), ("11.0.0.0", 80)),
        ("10.1.2.3/8:80", ("10.9.8.7", 80), ("10.9.8.7", 81)),
        ("[::1]:9000", ("::1", 9000), ("::1", 9001)),
        ("[fd00::/8]", ("fd00::1", 5), ("fe00::1", 5)),
        ("fd00::/8", ("fd00::1", 5), ("10.0.0.1", 5)),
    ],
)
def test_parts_of_the_own_network(text: str, inside: tuple[str, int], outside: tuple[str, int]) -> None:
    part = Internal.of(text)
    assert part.holds(ipaddress.ip_address(inside[0]), inside[1])
    assert not part.holds(ipaddress.ip_address(outside[0]), outside[1])


@pytest.mark.parametrize(
    "text",
    ["", "localhost", "127.0.0.1:", "127.0.0.1:0", "127.0.0.1:99999", "[::1", "[::1]x", "10.0.0.0/40", "a:b"],
)
def test_what_is_no_part_of_a_network_is_told(text: str) -> None:
    with pytest.raises(ValidationError):
        Internal.of(text)
