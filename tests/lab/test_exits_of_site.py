"""A home behind NAT whose way to the internet is a data centre of its own, and another where that falls silent.

In their order: the nearest that is preferred, what it refuses, the other one, and neither.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.provider.places import OUTSIDE_ADDRESS6
from tests.lab.edits import edit
from tests.lab.twin import Twin, eventually, playing
from tests.lab.vpn import carrying, device, seen

pytestmark = [pytest.mark.lab, pytest.mark.root]

AMS, AMS6, FRA = "203.0.113.10", "2001:db8:113::10", "192.0.2.10"
AMS_SERVER, FRA_SERVER = "10.10.0.100", "10.30.0.100"
FILES = {
    "fabric.yaml": "fabric: wan\nversion: 1\nlinks: [{between: [home, ams]}, {between: [ams, fra]}]\n",
    "ams.yaml": f"""
site: ams
kind: datacenter
hosts:
  ams-gw1:
    underlay: {{interface: eno1, addresses: [{AMS}/24, "{AMS6}/64"]}}
    lans: {{eno4: [10.10.0.1/16]}}
""",
    "fra.yaml": f"""
site: fra
kind: datacenter
hosts:
  fra-gw1:
    underlay: {{interface: eno1, addresses: [{FRA}/24], mtu: 1480}}
    lans: {{eno4: [10.30.0.1/16]}}
""",
    "home.yaml": """
site: home
kind: edge
hosts:
  nas:
    underlay: {interface: eth0, addresses: dhcp}
    lans: {lan0: [192.168.10.1/24, "fd00:192::1/64"]}
    exits:
      own:
        provider: site
        sites: [ams, fra]
        prefer: ams
        dns: 9.9.9.9
        health: {interval: 1s, timeout: 1s}
        hold: 1s
""",
}


@pytest.fixture(scope="module")
def lab(_root: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Twin]:
    sites = tmp_path_factory.mktemp("sites")
    for name, text in FILES.items():
        (sites / name).write_text(text)
    with playing(sites) as twin:
        twin.converged(twin.first)
        yield twin


def pinged(lab: Twin, where: str, *words: str) -> str:
    return lab.attempt(where, "ping", "-n", "-c", "1", "-W", "3", *words)[1]


def test_the_internet_sees_the_data_centre(lab: Twin) -> None:
    eventually(lambda: carrying(lab) == ["ams-gw1"], what="by the preferred site")
    eventually(lambda: seen(lab, "home-pc") == AMS, what="the LAN by ams")
    eventually(lambda: seen(lab, "nas") == AMS, what="the home itself by ams")
    # The home's own underlay has no IPv6.
    eventually(lambda: seen(lab, "home-pc", OUTSIDE_ADDRESS6) == AMS6, what="IPv6 by ams")


def test_both_ends_have_the_hosts_keys_and_one_mtu(lab: Twin) -> None:
    for host, dev in (("nas", device(lab)), ("ams-gw1", "wg-exits")):
        assert lab.run(host, f"wg show {dev} public-key") == (lab.sites / "keys" / f"{host}.pub").read_text()
        assert "mtu 1400 " in lab.run(host, f"ip link show {dev}"), "what the smallest underlay of all leaves"


@pytest.mark.parametrize(
    "inside",
    [AMS_SERVER, FRA_SERVER, "10.10.0.1", AMS],
    ids=["its LAN", "a LAN behind its tunnels", "its address there", "its public address"],
)
def test_what_comes_by_the_exit_reaches_nothing_of_ours(lab: Twin, inside: str) -> None:
    assert "Packet filtered" in pinged(lab, "nas", "-I", device(lab), inside)


def test_what_is_ours_is_reached_by_the_links_as_ever(lab: Twin) -> None:
    for server in (AMS_SERVER, FRA_SERVER):
        eventually(lambda to=server: "1 received" in pinged(lab, "home-pc", to), what=server)


def test_nobody_reaches_the_exit_from_the_data_centre(lab: Twin) -> None:
    [address] = re.findall(r"inet (10\.52\.\S+)/32", lab.run("nas", f"ip address show {device(lab)}"))
    assert "Packet filtered" in pinged(lab, "ams-server", address)


def test_another_site_takes_over_where_the_gateway_falls_silent(lab: Twin) -> None:
    port = lab.run("ams-gw1", "wg show wg-exits listen-port").strip()
    lab.run("ams-gw1", f"iptables -I INPUT -p udp --dport {port} -j DROP")
    eventually(lambda: carrying(lab) == ["fra-gw1"], what="by the other site")
    eventually(lambda: seen(lab, "home-pc") == FRA, what="the LAN by fra")
    assert seen(lab, "home-pc", OUTSIDE_ADDRESS6) == "", "fra has no IPv6 to the internet"


def test_without_the_exit_the_gateways_have_nothing_of_it(lab: Twin) -> None:
    edit(lab.sites / "home.yaml", lambda site: site["hosts"]["nas"].pop("exits"))
    lab.lock()
    lab.converged(lab.push("the home has the internet of its own again"))
    for host in ("ams-gw1", "fra-gw1"):
        assert lab.attempt(host, "wg show wg-exits")[0] != 0
        for tool in ("iptables-save", "ip6tables-save"):
            assert "GITWAN-POSTROUTING" not in lab.run(host, tool) and "wg-exits" not in lab.run(host, tool)
    assert "10.52." not in lab.run("ams-gw1", "ip route") + (lab.sites / "fabric.lock").read_text()
    eventually(lambda: seen(lab, "nas") not in ("", AMS, FRA), what="the home by its provider")
    assert not Path(lab.folder.host("nas") / "state" / "exits" / "own" / "private.key").exists()
