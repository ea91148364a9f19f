"""Probes inside tunnels, on a cable: the far kernel answers by the interface that was asked."""

from __future__ import annotations

import select
from collections.abc import Iterator

import pytest

from reconciler.system.echo import Echo
from tests.contract.conftest import needs_root
from tests.namespaces import ip, private_network

pytestmark = pytest.mark.root


@pytest.fixture
def echo() -> Iterator[Echo]:
    """eth0 has fe80::1 and eth1, at the other end of the cable, fe80::2."""
    needs_root()
    with private_network():
        ip("address add fe80::1/64 dev eth0 nodad")
        ip("address add fe80::2/64 dev eth1 nodad")
        found = Echo()
        yield found
        found.close()


def answers(echo: Echo, count: int) -> list[tuple[str, int]]:
    found: list[tuple[str, int]] = []
    while len(found) < count and select.select([echo], [], [], 5.0)[0]:
        found += echo.receive()
    return found


def test_a_probe_comes_back_by_the_device_it_went_out_of(echo: Echo) -> None:
    echo.send("eth0", "fe80::1", "fe80::2", 7, None)
    echo.send("eth1", "fe80::2", "fe80::1", 8, None)
    assert sorted(answers(echo, 2)) == [("eth0", 7), ("eth1", 8)]


def test_a_full_size_probe_passes_where_the_path_carries_it_and_is_never_cut(echo: Echo) -> None:
    echo.send("eth0", "fe80::1", "fe80::2", 1, 1500)
    assert answers(echo, 1) == [("eth0", 1)]
    ip("link set eth1 mtu 1400")
    ip("link set eth0 mtu 1400")
    echo.send("eth0", "fe80::1", "fe80::2", 2, 1401)
    echo.send("eth0", "fe80::1", "fe80::2", 3, 1400)
    assert answers(echo, 1) == [("eth0", 3)]


def test_what_cannot_be_sent_is_as_good_as_lost(echo: Echo) -> None:
    echo.send("nowhere", "fe80::1", "fe80::2", 1, None)
    ip("link set eth1 down")
    echo.send("eth0", "fe80::1", "fe80::2", 2, None)
    assert echo.receive() == []


def test_an_interface_that_was_made_again_is_found_again(echo: Echo) -> None:
    echo.send("eth0", "fe80::1", "fe80::2", 1, None)
    assert answers(echo, 1) == [("eth0", 1)]
    ip("link del eth0")
    ip("link add eth0 type veth peer name eth1")
    for name, address in (("eth0", "fe80::1"), ("eth1", "fe80::2")):
        ip(f"link set {name} up")
        ip(f"address add {address}/64 dev {name} nodad")
    echo.send("eth0", "fe80::1", "fe80::2", 2, None)
    assert answers(echo, 1) == [("eth0", 2)]


def test_answers_to_others_are_not_ours(echo: Echo) -> None:
    other = Echo()
    other.send("eth0", "fe80::1", "fe80::2", 5, None)
    assert answers(other, 1) == [("eth0", 5)]
    assert echo.receive() == []
    other.close()
