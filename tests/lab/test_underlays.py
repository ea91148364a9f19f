"""Hosts that speak IPv4, both, and IPv6 only to the internet; and a link of many tunnels."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.lab.edits import edit
from tests.lab.twin import Twin, eventually, playing

pytestmark = [pytest.mark.root, pytest.mark.lab, pytest.mark.timeout(600)]

FABRIC = """\
fabric: underlays
version: 1
links:
  - {between: [four, both], tunnels: 2}
  - {between: [both, six], tunnels: 2}
"""
SITE = """\
site: %(site)s
kind: datacenter
hosts:
  %(site)s-gw:
    underlay: {interface: eno1, addresses: [%(addresses)s], gateway: [%(gateways)s]}
    lans: {eno4: [10.%(n)d.0.1/24, "fd00:%(n)d::1/64"]}
"""
UNDERLAYS = {
    "four": (["203.0.113.10/25"], ["203.0.113.1"]),
    "both": (["203.0.113.140/25", "2001:db8:2::10/64"], ["203.0.113.129", "2001:db8:2::1"]),
    "six": (["2001:db8:3::10/64"], ["2001:db8:3::1"]),
}
MANY = 33
SERVERS = [("four-server", 1), ("both-server", 2), ("six-server", 3)]


@pytest.fixture(scope="module")
def twin(_root: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Twin]:
    sites = tmp_path_factory.mktemp("sites")
    (sites / "fabric.yaml").write_text(FABRIC)
    for n, (site, (addresses, gateways)) in enumerate(UNDERLAYS.items(), 1):
        words = {"site": site, "n": n, "addresses": _quoted(addresses), "gateways": _quoted(gateways)}
        (sites / f"{site}.yaml").write_text(SITE % words)
    with playing(sites) as twin:
        twin.settle()
        yield twin


def _quoted(words: list[str]) -> str:
    return ", ".join(f'"{word}"' for word in words)


def unreached(twin: Twin) -> list[str]:
    """Pings between servers that do not come back, of either family."""
    missing = []
    for space, _ in SERVERS:
        for other, n in SERVERS:
            for target in (f"10.{n}.0.100", f"fd00:{n}::64") if other != space else ():
                if twin.attempt(space, f"ping -q -n -c 3 -i 0.1 -W 2 {target}")[0]:
                    missing.append(f"{space} to {target}")
    return missing


def test_each_link_takes_a_family_that_both_ends_have(twin: Twin) -> None:
    endpoints = {
        row["device"]: row["endpoint"].rpartition(":")[0]
        for host in ("both-gw", "six-gw")
        for row in twin.status(host)["tunnels"]
    }
    assert endpoints["wg-four-1"] == "203.0.113.10" and endpoints["wg-six-1"] == "[2001:db8:3::10]"
    assert endpoints["wg-both-1"] == "[2001:db8:2::10]"


def test_networks_of_both_families_cross_underlays_of_either(twin: Twin) -> None:
    eventually(lambda: not unreached(twin), what=f"{unreached(twin)}")


def test_a_host_without_ipv4_follows_the_repository(twin: Twin) -> None:
    edit(twin.sites / "fabric.yaml", lambda fabric: fabric["links"][1].update(keepalive="7s"))
    twin.converged(twin.push("another keepalive"))
    assert "7" in twin.run("six-gw", "wg show wg-both-1 persistent-keepalive").split()


def test_a_link_of_many_tunnels(twin: Twin) -> None:
    """More than 32, for which groups have more buckets. `make bench-kernel` has a hundred."""
    edit(twin.sites / "fabric.yaml", lambda fabric: fabric["links"][1].update(tunnels=MANY))
    twin.lock()
    commit = twin.push("many tunnels")
    for host in ("both-gw", "six-gw"):
        eventually(lambda host=host: twin.status(host)["commit"] == commit, 120.0, f"{host} is at {commit}")  # type: ignore[misc]
        eventually(lambda host=host: len(carrying(twin, host)) >= MANY, 120.0, f"{host}: all carry traffic")  # type: ignore[misc]
    assert not unreached(twin)


def carrying(twin: Twin, host: str) -> list[str]:
    """Tunnels that are probed and alive."""
    return [row["device"] for row in twin.status(host)["tunnels"] if row["probe"] and row["probe"]["alive"]]
