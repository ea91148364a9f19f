"""Routes for machines without an agent, and the bytes of DHCP's option for them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compiler.agentless.lan_routes import lan_routes, option_121, read_option_121
from compiler.compile import compile_files
from compiler.fabric.model import Fabric
from compiler.shell.inputs import read_folder
from schema.ip import Prefix, address_text

CASES = Path(__file__).parents[3] / "golden" / "compile"


def fabric(case: str) -> Fabric:
    found = compile_files(read_folder(CASES / case / "input").files).fabric
    assert found is not None
    return found


@st.composite
def routes(draw: st.DrawFn) -> list[tuple[Prefix, str]]:
    found = []
    for _ in range(draw(st.integers(0, 20))):
        length = draw(st.integers(0, 32))
        value = draw(st.integers(0, 2**32 - 1)) >> 32 - length << 32 - length
        found.append((Prefix(4, value, length), address_text(4, draw(st.integers(0, 2**32 - 1)))))
    return found


@given(routes())
def test_what_is_written_is_what_a_client_reads(known: list[tuple[Prefix, str]]) -> None:
    assert read_option_121(option_121(known)) == known


def test_the_bytes_are_those_of_the_standard() -> None:
    """The table of RFC 3442, page 3: the width, then only the octets that it needs."""
    for text, octets in (
        ("0.0.0.0/0", [0]),
        ("10.0.0.0/8", [8, 10]),
        ("10.0.0.0/24", [24, 10, 0, 0]),
        ("10.17.0.0/16", [16, 10, 17]),
        ("10.27.129.0/24", [24, 10, 27, 129]),
        ("10.229.0.128/25", [25, 10, 229, 0, 128]),
        ("10.198.122.47/32", [32, 10, 198, 122, 47]),
    ):
        assert list(option_121([(Prefix.parse(text), "192.0.2.1")])) == [*octets, 192, 0, 2, 1]


@pytest.mark.parametrize("data", [b"\x21" + bytes(9), b"\x08\x0a\x01\x02\x03", b"\x20\x0a"])
def test_what_is_no_such_option_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="no classless"):
        read_option_121(data)


def test_the_way_is_the_virtual_address_where_there_is_one_and_else_the_hosts_own() -> None:
    shown = {str(lan.network): (lan.via, lan.virtual) for lan in lan_routes(fabric("two-gateways"), "a")}
    assert shown == {
        "10.10.0.0/16": ("10.10.0.254", True),
        "10.11.0.0/16": ("10.11.0.254", True),
        "fd00:10::/64": ("fd00:10::fe", True),
    }
    shown = {str(lan.network): (lan.via, lan.virtual) for lan in lan_routes(fabric("two-gateways"), "b")}
    assert shown == {"10.20.0.0/16": ("10.20.0.1", False), "fd00:20::/64": ("fd00:20::1", False)}


def test_all_other_networks_lie_behind_a_lan_and_its_own_does_not() -> None:
    known = fabric("three-hosts-on-one-lan")
    for site in known.sites:
        for lan in lan_routes(known, site):
            others = [p for node in known.nodes.values() for p in node.networks if p.version == lan.network.version]
            for other in others:
                assert (other == lan.network) != any(prefix.covers(other) for prefix in lan.prefixes)
