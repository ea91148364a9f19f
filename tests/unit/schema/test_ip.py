from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schema.ip import Interface, Prefix, is_private, parse_address

networks = st.one_of(
    st.builds(lambda v, n: ipaddress.ip_network((v, n), strict=False), st.integers(0, 2**32 - 1), st.integers(0, 32)),
    st.builds(lambda v, n: ipaddress.ip_network((v, n), strict=False), st.integers(0, 2**128 - 1), st.integers(0, 128)),
)


@given(networks)
def test_a_prefix_reads_and_writes_as_the_standard_library_does(network: ipaddress.IPv4Network) -> None:
    # The library writes IPv4-mapped addresses in its own way; the kernel's tools write them dotted.
    text = str(network) if network.version == 4 else str(Prefix.parse(str(network)))
    prefix = Prefix.parse(text)
    assert str(prefix) == text
    assert (prefix.version, prefix.length) == (network.version, network.prefixlen)
    assert prefix.first == int(network.network_address)
    assert prefix.last == int(network.broadcast_address)


@given(networks, networks)
def test_covers_is_subnet_of(a: ipaddress.IPv4Network, b: ipaddress.IPv4Network) -> None:
    expected = a.version == b.version and b.subnet_of(a)
    assert Prefix.parse(str(a)).covers(Prefix.parse(str(b))) == expected


@pytest.mark.parametrize(
    "text", ["", "10.0.0", "10.0.0.1/33", "10.0.0.0/-1", "fd00::/129", "10.0.0.0/٣", "a/8", "1.2.3.4/"]
)
def test_what_is_no_prefix_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        Prefix.parse(text)


def test_a_prefix_with_host_bits_names_the_network_that_was_meant() -> None:
    with pytest.raises(ValueError, match=r"the network is 10\.1\.0\.0/16"):
        Prefix.parse("10.1.2.3/16")


def test_an_interface_keeps_the_address_and_knows_its_network() -> None:
    interface = Interface.parse("fd00:10::1/64")
    assert (interface.address, str(interface.network), str(interface.host)) == (
        "fd00:10::1",
        "fd00:10::/64",
        "fd00:10::1/128",
    )


@pytest.mark.parametrize(
    ("text", "private"),
    [("10.1.2.3", True), ("100.64.0.1", True), ("203.0.113.1", False), ("fd00::1", True), ("2001:db8::1", False)],
)
def test_who_can_be_dialled(text: str, private: bool) -> None:
    assert is_private(Interface.parse(text)) is private


def test_an_address_is_version_and_value() -> None:
    assert parse_address("0.0.1.2") == (4, 258)
    assert parse_address("::ff") == (6, 255)
