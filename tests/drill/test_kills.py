"""The agent is killed between every two kernel operations, and at every step of fetch, compile, journal and confirm.

After each kill a new process brings the last confirmed plan back, and another one applies what git has. Each stage has
to end in the state that a run without a kill ends in, with everything foreign untouched.
"""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from reconciler.process.reconciler import Reconciler
from reconciler.process.setup import reconciler_of, store_of
from reconciler.sources import repository
from reconciler.sources.git import Clone
from reconciler.state import journal
from reconciler.state import store as state
from reconciler.state.config import AgentConfig, parse
from reconciler.system.service import ServiceDriver
from reconciler.system.wg_key import generate_private, public_key
from schema.plan import (
    RESOURCES,
    Address,
    Change,
    Firewall,
    HostPlan,
    Link,
    Member,
    Nexthop,
    Peer,
    Resource,
    Route,
    Rule,
    SecretRef,
    Service,
    Sysctl,
    Wireguard,
)
from tests.drill import everything
from tests.namespaces import ip, private_network, run
from tests.unit.reconciler.worlds import key

pytestmark = [pytest.mark.root, pytest.mark.timeout(1800)]

STEP = 1 if everything() else 12
"""Of how many points one is tried."""
COMPILER = """\
import json, sys
request = json.loads(sys.stdin.buffer.readline())
print('{"plan":' + sys.stdin.read(request["files"][0][1]) + '}')
"""
"""Takes the repository's only file for the plan: what is compiled here has to touch every kind."""
SYSCTLS = ("net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding", "net/ipv4/conf/eth0/rp_filter")


def tunnel(name: str, port: int, mtu: int, public: str, address: str) -> list[Resource]:
    return [
        Link(name=name, type="wireguard", mtu=mtu, group=117),
        Wireguard(dev=name, private_key=SecretRef(secret="private-key", fingerprint=public), listen_port=port),
        Address(dev=name, address=address),
    ]


def chain(name: str, hook: str, *rules: str, table: str = "filter") -> Firewall:
    return Firewall(family="inet", table=table, chain=name, hook=hook, rules=rules)  # type: ignore[arg-type]


def daemon(priority: int) -> Service:
    """Too slow to lead within a test: whether the virtual address is there has nothing to do with a plan."""
    return Service(
        name="keepalived",
        config="global_defs {\n    vrrp_version 3\n}\nvrrp_instance lan {\n    state BACKUP\n    interface eth0\n"
        f"    virtual_router_id 117\n    priority {priority}\n    advert_int 40\n"
        "    virtual_ipaddress {\n        192.0.2.254/32\n    }\n}\n",
    )


def old_plan(public: str) -> list[Resource]:
    return [
        daemon(100),
        Sysctl(name="net/ipv4/ip_forward", value="1"),
        chain("GITWAN-INPUT", "INPUT", "-p udp -m udp --dport 5000 -j ACCEPT"),
        chain("GITWAN-FORWARD", "FORWARD", "-i wg0 -j ACCEPT", table="mangle"),
        *tunnel("wg0", 5000, 1420, public, "10.255.0.1/32"),
        *tunnel("wg1", 5001, 1420, public, "10.255.0.1/32"),
        Link(name="br-g", type="bridge", members=("eth2",)),
        Peer(dev="wg0", public_key=key(8), endpoint="198.51.100.8:5000", allowed_ips=("10.20.0.0/16",)),
        Peer(dev="wg0", public_key=key(9), allowed_ips=("10.21.0.0/16", "10.22.0.0/16"), keepalive=10),
        Peer(dev="wg1", public_key=key(8), allowed_ips=("10.20.0.0/16",)),
        Nexthop(id=117050000, family="inet", dev="wg0"),
        Nexthop(id=117050010, family="inet", dev="wg1"),
        Nexthop(id=117050002, group=(Member(id=117050000), Member(id=117050010))),
        Route(dst="10.20.0.0/16", nhid=117050002),
        Route(dst="10.21.0.0/16", dev="wg0"),
        Route(dst="10.22.0.0/16", dev="wg0", table=100),
        Route(dst="10.0.0.0/8", type="unreachable", metric=1117),
        Rule(family="inet", priority=1000, table=100),
    ]


def new_plan(public: str) -> list[Resource]:
    return [
        daemon(50),
        Sysctl(name="net/ipv6/conf/all/forwarding", value="1"),
        Sysctl(name="net/ipv4/conf/eth0/rp_filter", value="2"),
        chain("GITWAN-INPUT", "INPUT", "-p udp -m udp --dport 5001 -j ACCEPT"),
        chain("GITWAN-OUTPUT", "OUTPUT", "-o wg2 -j ACCEPT", table="mangle"),
        *tunnel("wg0", 5001, 1400, public, "10.255.0.2/32"),
        *tunnel("wg2", 5002, 1420, public, "10.255.0.2/32"),
        Link(name="br-g", type="bridge", members=("eth3",)),
        Peer(dev="wg0", public_key=key(8), endpoint="198.51.100.8:5001", allowed_ips=("10.20.0.0/16", "10.21.0.0/16")),
        Peer(dev="wg0", public_key=key(7), allowed_ips=("10.22.0.0/16",)),
        Peer(dev="wg2", public_key=key(8), allowed_ips=("10.20.0.0/16",)),
        Nexthop(id=117050010, family="inet", dev="wg0"),
        Nexthop(id=117050020, family="inet", dev="wg2"),
        Nexthop(id=117050012, group=(Member(id=117050010), Member(id=117050020))),
        Route(dst="10.20.0.0/16", nhid=117050012),
        Route(dst="10.21.0.0/16", dev="wg0"),
        Route(dst="10.22.0.0/16", dev="wg0", table=101),
        Route(dst="10.23.0.0/16", dev="wg2"),
        Rule(family="inet", priority=1000, table=101),
    ]


FOREIGN = (
    "ip link add eth2 type veth peer name eth3",
    "ip link set eth2 up",
    "ip link set eth3 up",
    "ip address add 192.0.2.10/24 dev eth0",
    "ip route add 203.0.113.0/24 via 192.0.2.1 dev eth0 metric 20",
    "ip route add 10.20.0.0/16 dev eth0 metric 900",
    "ip rule add priority 500 table 77",
    "ip nexthop add id 900 dev eth0",
    "ip link add theirs type bridge",
    "iptables -N THEIRS",
    "iptables -A INPUT -s 192.0.2.1 -j THEIRS",
    "sysctl -qw net.ipv4.conf.eth1.arp_filter=1",
)


# What a host holds


def dump(world: Path) -> dict[str, Any]:
    """Everything that the kernel and our daemons hold, without what no two runs have in common."""
    shown: dict[str, Any] = {
        "links": _rows("link", lambda row: row["link_type"] != "loopback"),
        "addresses": [
            (row["ifname"], a["local"], a["prefixlen"], a.get("protocol"))
            for row in json.loads(ip("-j address"))
            for a in row["addr_info"]
            if a["scope"] == "global"
        ],
        "nexthops": _rows("nexthop show", lambda row: True),
    }
    for family in ("-4", "-6"):
        shown[f"routes {family}"] = _rows(f"{family} route show table all", lambda row: row.get("protocol") != "kernel")
        shown[f"rules {family}"] = _rows(f"{family} rule show", lambda row: True)
    for tool in ("iptables-save", "ip6tables-save"):
        shown[tool] = sorted(line for line in _without_counters(run(tool)).splitlines() if line[:1] in "*:-")
    shown["wireguard"] = sorted(_wireguard())
    shown["services"] = [
        (one.resource.name, one.resource.config, one.up) for one in ServiceDriver(world / "services").observe()
    ]
    shown["parameters"] = {name: Path("/proc/sys", name).read_text().strip() for name in SYSCTLS}
    return shown


UNSTEADY = {
    "operstate",
    "ifindex",
    "link_index",
    "address",
    "stats64",
    "stats",
    "flags",
    "txqlen",
    "addr_info",
    "link",
    "pref",
}


def _rows(words: str, wanted: Callable[[dict[str, Any]], bool]) -> list[str]:
    found = json.loads(ip(f"-j {words}") or "[]")
    rows = ({k: v for k, v in row.items() if k not in UNSTEADY} for row in found if wanted(row))
    return sorted(json.dumps(row, sort_keys=True) for row in rows)


def _without_counters(text: str) -> str:
    return re.sub(r"\[\d+:\d+\]", "", text)


def _wireguard() -> Iterator[str]:
    for line in run("wg show all dump").splitlines():
        fields = line.split("\t")
        # A peer: device, key, preshared, endpoint, allowed; what it sent and received has nothing to do with a plan.
        if len(fields) == 9:
            yield " ".join([*fields[:4], ",".join(sorted(fields[4].split(","))), fields[8]])
        else:
            yield " ".join([fields[0], *fields[2:]])


def foreign() -> list[str]:
    """All that is somebody else's."""
    lines = [line for words in ("-4 route", "-4 rule", "nexthop", "-o link", "-o -4 address") for line in _shown(words)]
    saved = _without_counters(run("iptables-save")).splitlines()
    parameter = Path("/proc/sys/net/ipv4/conf/eth1/arp_filter").read_text()
    return [*lines, *(line for line in saved if "THEIRS" in line), parameter]


def _shown(words: str) -> list[str]:
    wanted = ("203.0.113.0", "metric 900", "lookup 77", "id 900", "theirs:", "192.0.2.10/24")
    return [line for line in ip(words).splitlines() if any(word in line for word in wanted)]


# A host in a namespace, and processes on it


@dataclass
class Site:
    """A repository with two commits, and a host that pulls from it."""

    folder: Path
    old: str = ""
    new: str = ""

    def prepare(self) -> None:
        git = self.folder / "wan.git"
        self._git("init", "-q", "-b", "main", str(git), at=self.folder)
        private = generate_private()
        keys = self.folder / "keys"
        keys.mkdir(mode=0o700)
        (keys / "private.key").touch(0o600)
        (keys / "private.key").write_text(base64.b64encode(private).decode())
        (self.folder / "compiler.py").write_text(COMPILER)
        for name, plan in (("old", old_plan), ("new", new_plan)):
            host_plan = HostPlan.of("h", plan(public_key(private)))
            assert {r.kind for r in host_plan.resources} == set(RESOURCES)
            (git / "plan.yaml").write_bytes(host_plan.canonical())
            self._git("add", "plan.yaml", at=git)
            self._git("commit", "-q", "-m", name, at=git)
            setattr(self, name, self._git("rev-parse", "HEAD", at=git))

    def offer(self, commit: str) -> None:
        """What the repository's branch shows from now on."""
        self._git("update-ref", "refs/heads/main", commit, at=self.folder / "wan.git")

    def config(self, world: Path) -> AgentConfig:
        text = (
            f"{{host: h, source: {{git: {self.folder}/wan.git}}, state: {world}, socket: {world}/agent.sock, "
            f"metrics: off, keys: {self.folder}/keys}}"
        )
        return parse(text, "agent.yaml")

    def host(self, world: Path, point: Callable[[], None] = lambda: None) -> Reconciler:
        config = self.config(world)
        host = reconciler_of(config, store_of(config), [sys.executable, "-S", str(self.folder / "compiler.py")])
        host.say = lambda level, text: None
        host.store.lock()
        host.engine.converger.batch = 1
        host.engine.converger.on_stage = host.acquirer.on_stage = lambda name: point()
        return host

    def _git(self, *words: str, at: Path) -> str:
        command = ["git", "-C", str(at), "-c", "user.name=t", "-c", "user.email=t@localhost", *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


class Points:
    """Counts the places at which the process could end, and ends it at one of them."""

    def __init__(self, kill_at: int | None) -> None:
        self.count, self.kill_at = 0, kill_at

    def __call__(self) -> None:
        self.count += 1
        if self.count == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def around(self, owner: Any, name: str) -> None:
        """A point before and one after each call."""
        real = getattr(owner, name)

        def wrapped(*arguments: Any, **named: Any) -> Any:
            self()
            try:
                return real(*arguments, **named)
            finally:
                self()

        setattr(owner, name, wrapped)

    def spread(self) -> None:
        """Points at every git command, compilation, and write to the disk; in a process that ends anyway."""
        self.around(Clone, "_git")
        self.around(repository, "compile_tree")
        for module in (state, journal):
            self.around(module, "write_atomic")
            self.around(module, "remove")
        self.around(state, "sync_folder")
        self.around(Path, "replace")


def process(body: Callable[[], None]) -> int:
    """Runs in a child of its own; its exit code, negative for a signal."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            body()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def once(site: Site, world: Path, points: Points | None = None) -> None:
    if points:
        points.spread()
    report = site.host(world, points or (lambda: None)).once()
    assert report.ok, report


def restore(site: Site, world: Path) -> None:
    report = site.host(world).restore()
    assert report.error is None and report.state_error is None, report


@contextmanager
def host_world() -> Iterator[Path]:
    """A host with what is somebody else's on it, and its state folder; no daemon of ours outlives it."""
    with tempfile.TemporaryDirectory(prefix="gwd-") as folder, private_network():
        for line in FOREIGN:
            run(line)
        try:
            yield Path(folder)
        finally:
            assert ServiceDriver(Path(folder) / "services").apply([Change(daemon(100), None)]) == []


def at_the_point(site: Site, number: int | None) -> tuple[bool, str, dict[str, Any], dict[str, Any], bool]:
    """One world: old plan, a kill at a point of the way to the new one, a restore, and another run.

    Whether it was killed, the commit after the restore, what was there then and after the other run, and whether
    what is foreign stayed as it was all the time.
    """
    with host_world() as world:
        site.offer(site.old)
        assert process(lambda: once(site, world)) == 0
        theirs = foreign()
        site.offer(site.new)
        code = process(lambda: once(site, world, Points(number)))
        assert code in (0, -signal.SIGKILL), f"point {number} ended with {code}"
        assert process(lambda: restore(site, world)) == 0, f"point {number}"
        confirmed = json.loads((world / "confirmed.json").read_text())["commit"]
        restored, untouched = dump(world), foreign() == theirs
        assert process(lambda: once(site, world)) == 0, f"point {number}"
        return code != 0, confirmed, restored, dump(world), untouched and foreign() == theirs


@pytest.fixture
def site(tmp_path: Path) -> Site:
    found = Site(tmp_path)
    found.prepare()
    return found


def test_a_kill_at_any_point_ends_in_the_old_or_the_new_plan(
    site: Site, measured: dict[str, list[tuple[str, str]]]
) -> None:
    old = clean(site, site.old)
    killed, confirmed, _, new, untouched = at_the_point(site, None)
    assert (killed, confirmed, untouched) == (False, site.new, True)
    number, tried, ends = 1, 0, {site.old: 0, site.new: 0}
    while True:
        killed, confirmed, restored, again, untouched = at_the_point(site, number)
        if not killed:
            break
        assert untouched, f"point {number}: something foreign was changed"
        differs(f"point {number}, restored", restored, old if confirmed == site.old else new)
        differs(f"point {number}, applied again", again, new)
        ends[confirmed] += 1
        number, tried = number + STEP, tried + 1
    figure = f"{tried} of {count(site)} points; restored: {ends[site.old]} to the old plan, {ends[site.new]} to the new"
    measured.setdefault("kills of the agent on the way from one plan to another", []).append(("SIGKILL", figure))
    assert STEP > 1 or tried == number - 1


def clean(site: Site, commit: str) -> dict[str, Any]:
    """What a host holds after a run to a commit that nothing disturbed."""
    with host_world() as world:
        site.offer(commit)
        assert process(lambda: once(site, world)) == 0
        return dump(world)


def count(site: Site) -> int:
    """The points of a whole run."""
    with host_world() as world:
        written = world / "points"
        site.offer(site.old)
        assert process(lambda: once(site, world)) == 0
        site.offer(site.new)

        def counting() -> None:
            points = Points(None)
            once(site, world, points)
            written.write_text(str(points.count))

        assert process(counting) == 0
        return int(written.read_text())


def differs(where: str, found: dict[str, Any], wanted: dict[str, Any]) -> None:
    for name in wanted:
        assert found[name] == wanted[name], f"{where}: {name}"
