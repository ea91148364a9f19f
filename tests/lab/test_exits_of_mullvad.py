"""A home whose exit is Mullvad: one device is good at every relay, so another relay needs nobody's leave."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from tests.lab.edits import edit
from tests.lab.twin import REPOSITORY, Twin, as_json, eventually, playing
from tests.lab.vpn import HOST, carried, carrying, fault, gate, line, order

pytestmark = [pytest.mark.lab, pytest.mark.root]
SITES = REPOSITORY / "tests" / "golden" / "compile" / "exits" / "input"
EXIT = {
    "provider": "mullvad",
    "credentials": "pia-login",  # the lab puts the account of its twin there
    "hold": "1s",
    "health": {"interval": "1s", "timeout": "1s"},
}
UNDERLAY = {"interface": "eth0", "addresses": ["198.51.100.10/24", "2001:db8:51::10/64"]}
"""Of both families: so the first address of a name is one of IPv6, whatever a tunnel has."""
FIRST, SECOND = "se-mma/se-mma-wg-001", "se-mma/se-mma-wg-002"


@pytest.fixture(scope="module")
def home(_root: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Twin]:
    sites = tmp_path_factory.mktemp("sites")
    shutil.copytree(SITES, sites, dirs_exist_ok=True)
    edit(sites / "home.yaml", lambda site: site["hosts"][HOST].update(exits={"mullvad": EXIT}, underlay=UNDERLAY))
    with playing(sites) as twin:
        eventually(lambda: carried(twin), 60.0, "connected")
        yield twin


def addresses(twin: Twin) -> list[str]:
    """This end's, within its tunnels: those of the account's device."""
    links = as_json(twin.run(HOST, "ip -j address"))
    own = [link for link in links if link["ifname"].startswith("wg-mullvad")]
    return sorted(info["local"] for link in own for info in link["addr_info"] if info["scope"] == "global")


def test_the_home_takes_the_nearest_relay_in_both_families(home: Twin) -> None:
    assert carrying(home) == [FIRST]
    four, six = addresses(home)
    assert "." in four and ":" in six
    assert gate(FIRST).address in home.run(HOST, "wg show wg-mullvad endpoints")


def test_another_relay_is_taken_while_mullvad_itself_is_silent(home: Twin) -> None:
    """A failover is a peer's swap: the device stays the same, and nobody is asked."""
    before = addresses(home)
    fault(home, "mullvad-api", "silence")
    line(home, FIRST, silent=True)
    eventually(lambda: carrying(home) == [SECOND], 30.0, "the next nearest")
    eventually(lambda: carried(home), what="carried")
    assert set(addresses(home)) == set(before)
    fault(home, "mullvad-api", "")
    line(home, FIRST, silent=False)


def test_a_device_that_was_forgotten_here_is_found_again_once_mullvad_answers(home: Twin) -> None:
    before, stays = addresses(home), carrying(home)
    fault(home, "mullvad-api", "http-500")
    for kept in (home.folder.host(HOST) / "state" / "exits").glob("*/device.json"):
        kept.unlink()
    order(home, "next")
    eventually(lambda: home.condition(HOST, "Exits")["reason"] == "HttpError", 30.0, "said")
    assert carrying(home) == stays and carried(home)
    fault(home, "mullvad-api", "")
    order(home, "next")
    eventually(lambda: carrying(home) not in ([], stays), 30.0, "another one")
    eventually(lambda: carried(home), what="carried")
    eventually(lambda: home.condition(HOST, "Exits")["status"] == "True", what="said to be well")
    assert set(addresses(home)) == set(before), "the same device"
