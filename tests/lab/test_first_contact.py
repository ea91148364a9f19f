"""A host that somebody set up by hand before the agent came: what is as wanted stays theirs, the rest is a conflict."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lab.repository import git
from reconciler.system.wg_key import generate_private, public_key
from tests.namespaces import ip, private_network, run

pytestmark = [pytest.mark.lab, pytest.mark.root]

FABRIC = "fabric: contact\nversion: 1\nlinks:\n  - between: [a, b]\n"
A = """\
site: a
kind: datacenter
hosts:
  a-gw:
    underlay: {interface: eth0, addresses: [203.0.113.10/24], gateway: 203.0.113.1, managed: true}
    lans:
      lan0: [10.10.0.1/16, "fd00:10::1/64"]
"""
B = """\
site: b
kind: datacenter
hosts:
  b-gw:
    underlay: {interface: eth0, addresses: [198.51.100.10/24]}
    lans:
      lan0: [10.20.0.1/16]
"""
ALONE = {
    "fabric": "fabric: contact\nversion: 1\n",
    "b": "",
    "a": """\
site: a
kind: datacenter
hosts:
  a-gw:
    underlay: {interface: eth0, addresses: [203.0.113.10/24], gateway: 203.0.113.1}
""",
}
"""The same without the tunnel, the LAN, and the care for the underlay."""
LOOKS = ("-j link show", "-j address show", "-4 route show table all", "-6 route show table all", "nexthop show")
WG_LOOKS = ("private-key", "listen-port", "peers", "endpoints", "allowed-ips", "persistent-keepalive")
PEER = "10.20.0.0/16,10.255.0.0/16,fd00:255::/48"
CONFIG = """\
host: a-gw
source: {{git: "file://{folder}/repository"}}
state: {folder}/state
socket: {folder}/agent.sock
keys: {folder}/keys
metrics: off
"""


@dataclass
class Contact:
    """A host in namespaces of its own, its repository, and its agent as a process."""

    folder: Path
    other_key: str

    def commit(self, **files: str) -> None:
        """Writes files, removes those without a text, and commits."""
        for name, text in files.items():
            path = self.folder / "repository" / f"{name}.yaml"
            path.write_text(text) if text else path.unlink()
        if not files.get("b", B):
            (self.folder / "repository/keys/b-gw.pub").unlink()
        git(self.folder / "repository", "add", "-A")
        git(self.folder / "repository", "commit", "-q", "-m", "change")

    def process(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "gitwan", "agent", *words, "--config", str(self.folder / "agent.yaml")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert "Traceback" not in done.stderr, done.stderr
        return done

    def agent(self, *words: str) -> tuple[int, str]:
        """`gitwan agent ...`: exit code, and all that it said."""
        done = self.process(*words)
        return done.returncode, done.stdout + done.stderr

    def once(self) -> tuple[int, dict[str, Any], dict[str, Any]]:
        """One cycle: exit code, report, and conditions by type."""
        done = self.process("run", "--once", "--json")
        found = json.loads(done.stdout)
        return done.returncode, found["report"], {c["type"]: c for c in found["status"]["conditions"]}

    def snapshot(self) -> str:
        """All that the kernel holds, but for how much a tunnel has sent."""
        commands = [f"ip {words}" for words in LOOKS] + [f"wg show all {words}" for words in WG_LOOKS]
        saved = "\n".join(run("iptables-save") + run("ip6tables-save"))
        return "\n".join([*map(run, commands), re.sub(r"^#.*$", "", saved, flags=re.MULTILINE)])

    def underlay(self, gateway: str = "203.0.113.1") -> None:
        """The interface to the internet, as an operating system sets it up, but for the metric."""
        ip("address add 203.0.113.10/24 dev eth0")
        ip(f"route add default via {gateway} dev eth0 proto static metric 117")

    def lan(self) -> None:
        ip("address add 10.10.0.1/16 dev lan0")
        ip("address add fd00:10::1/64 dev lan0 nodad")

    def tunnel(self, port: int = 5000, allowed: str = PEER, group: int = 117, mtu: int = 1420) -> None:
        """The tunnel to b, made by hand."""
        run("wireguard-go wg-b-1")
        key = self.folder / "keys/private.key"
        run(f"wg set wg-b-1 private-key {key} listen-port {port}")
        peer = f"{self.other_key} endpoint 198.51.100.10:5000 persistent-keepalive 10"
        run(f"wg set wg-b-1 peer {peer} allowed-ips {allowed}")
        ip(f"link set wg-b-1 mtu {mtu} group {group} up")
        ip("address add 10.255.0.1/32 dev wg-b-1")
        ip("address add fd00:255::1/128 dev wg-b-1")


@pytest.fixture
def contact(_root: None, tmp_path: Path) -> Iterator[Contact]:
    repository = tmp_path / "repository"
    (repository / "keys").mkdir(parents=True)
    git(repository, "init", "-q", "-b", "main")
    (tmp_path / "agent.yaml").write_text(CONFIG.format(folder=tmp_path))
    other = public_key(generate_private())
    here = Contact(tmp_path, other)
    keys = [sys.executable, "-m", "gitwan", "keys", "--dir", str(tmp_path / "keys")]
    made = subprocess.run(keys, capture_output=True, text=True, check=True)
    (repository / "keys/a-gw.pub").write_text(made.stdout.splitlines()[0] + "\n")
    (repository / "keys/b-gw.pub").write_text(other + "\n")
    with private_network():
        ip("link add lan0 type veth peer name lan1")
        ip("link set lan1 up")
        ip("link set lan0 up")
        here.commit(fabric=FABRIC, a=A, b=B)
        yield here


BY_HAND = [
    "address 203.0.113.10/24 dev eth0",
    "address 10.10.0.1/16 dev lan0",
    "address fd00:10::1/64 dev lan0",
    "link wg-b-1",
    "wireguard wg-b-1",
    "peer wg-b-1",
    "route 0.0.0.0/0",
]


def by_hand(contact: Contact) -> None:
    """Everything that can be made by hand, exactly as the plan wants it."""
    contact.underlay()
    contact.lan()
    contact.tunnel()


def there() -> set[str]:
    """Which of those things are in the kernel."""
    addresses, default = ip("-br address show"), ip("route show default")
    tunnel = subprocess.run(["wg", "show", "wg-b-1", "peers"], capture_output=True, text=True, check=False).stdout
    found = {what for what in BY_HAND if what.startswith("address") and what.split()[1] in addresses}
    found |= {"route 0.0.0.0/0"} if "via" in default else set()
    return found | ({"link wg-b-1", "wireguard wg-b-1", "peer wg-b-1"} if tunnel else set())


def named(texts: list[str]) -> set[str]:
    """Which of those things are named first in these texts."""
    return {what for what in BY_HAND if any(text.startswith(what) for text in texts)}


def test_what_is_there_as_wanted_is_enough_and_stays_somebody_elses(contact: Contact) -> None:
    by_hand(contact)
    code, report, conditions = contact.once()
    assert (code, conditions["Applied"]["status"]) == (0, "True")
    assert named(report["foreign"]) == set(BY_HAND)
    code, said = contact.agent("status")
    assert "satisfied by others: 9" in said
    assert contact.once()[1]["operations"] == 0

    contact.commit(**ALONE)
    code, report, _ = contact.once()
    assert code == 0
    assert not any(words.startswith(("address", "link", "peer", "wireguard")) for words in report["by_kind"])
    assert there() == set(BY_HAND)
    assert contact.agent("remove", "--yes")[0] == 0
    assert there() == set(BY_HAND)


def test_what_is_adopted_is_ours_from_then_on(contact: Contact) -> None:
    by_hand(contact)
    assert contact.once()[0] == 0
    code, said = contact.agent("adopt")
    assert code == 0 and "run again with --yes" in said
    code, said = contact.agent("adopt", "--yes")
    assert code == 0, said
    code, report, _ = contact.once()
    assert (code, report["operations"], report["foreign"]) == (0, 0, [])
    assert there() == set(BY_HAND)
    contact.commit(**ALONE)
    assert contact.once()[0] == 0
    assert there() == set()


def test_an_address_with_another_length_is_another_address(contact: Contact) -> None:
    ip("address add 10.10.0.1/24 dev lan0")
    code, report, _ = contact.once()
    assert (code, report["conflicts"]) == (0, [])
    assert {"10.10.0.1/24", "10.10.0.1/16"} <= set(ip("-br address show lan0").split())


def test_a_default_route_with_another_metric_stays_beside_ours(contact: Contact) -> None:
    ip("address add 203.0.113.10/24 dev eth0")
    ip("route add default via 203.0.113.254 dev eth0")
    assert contact.once()[0] == 0
    assert ip("route show default").splitlines() == [
        "default via 203.0.113.254 dev eth0 ",
        "default via 203.0.113.1 dev eth0 proto 117 metric 117 ",
    ]


def another_key(contact: Contact) -> None:
    contact.tunnel()
    (contact.folder / "other.key").write_text(run("wg genkey"))
    run(f"wg set wg-b-1 private-key {contact.folder / 'other.key'}")


DIFFERENT: dict[str, tuple[Callable[[Contact], object], str]] = {
    "a default route by another gateway": (lambda c: c.underlay("203.0.113.254"), "route 0.0.0.0/0"),
    "a tunnel on another port": (lambda c: c.tunnel(port=5999), "wireguard wg-b-1"),
    "a tunnel with another key": (another_key, "wireguard wg-b-1"),
    "a peer with other networks": (lambda c: c.tunnel(allowed="10.20.0.0/16"), "peer wg-b-1"),
    "a tunnel with another MTU": (lambda c: c.tunnel(mtu=1300), "link wg-b-1"),
    "a bridge with a tunnel's name": (lambda c: ip("link add wg-b-1 type bridge"), "link wg-b-1"),
}


@pytest.mark.parametrize(("make", "name"), DIFFERENT.values(), ids=DIFFERENT.keys())
def test_what_is_there_differently_is_a_conflict_until_it_is_adopted(
    contact: Contact, make: Callable[[Contact], object], name: str
) -> None:
    make(contact)
    before = contact.snapshot()
    code, report, conditions = contact.once()
    assert code == 1
    assert report["operations"] == 0
    assert any(text.startswith(name) for text in report["conflicts"]), report["conflicts"]
    applied = conditions["Applied"]
    assert (applied["status"], applied["reason"]) == ("False", "Conflict")
    assert applied["message"].startswith(name) and "gitwan agent adopt" in applied["message"]
    assert contact.snapshot() == before

    code, said = contact.agent("adopt", "--yes")
    assert code == 0, said
    assert contact.once()[:2][0] == 0
    assert contact.once()[1]["operations"] == 0
    assert there() == set(BY_HAND)
    contact.commit(**ALONE)
    assert contact.once()[0] == 0
    assert there() == set()
