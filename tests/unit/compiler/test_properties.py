"""What holds for every network: it is deterministic, stable, and everybody reaches everybody."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from bench.generate import key
from compiler.compile import Compilation, compile_files
from compiler.fabric.tunnel import Tunnel
from compiler.shell.inputs import read_folder
from reconciler.converge.diff import Desired
from reconciler.converge.layers import compose
from reconciler.converge.takeover import awaited
from reconciler.kinds import KINDS
from schema.ip import Prefix, address_text
from schema.lock import lock_text
from schema.plan import HostPlan, Key, Nexthop, Resource, Route, Service
from tests.unit.compiler.walk import Walker

EXAMPLE = read_folder(Path(__file__).parents[3] / "sites").files


@st.composite
def networks(draw: st.DrawFn) -> dict[str, bytes]:
    """Connected fabrics: a random tree of sites, random links beside it, some of them a backbone, some clients."""
    size = draw(st.integers(2, 9))
    names = draw(st.permutations([f"s{n}" for n in range(size)]))
    links = {(names[n], names[draw(st.integers(0, n - 1))]) for n in range(1, size)}
    for a, b in draw(st.lists(st.tuples(st.sampled_from(names), st.sampled_from(names)), max_size=6)):
        if a != b and (b, a) not in links:
            links.add((a, b))
    backbone = draw(st.lists(st.sampled_from(names), unique=True, max_size=4))
    lines = [f"  - {{between: [{a}, {b}], tunnels: {draw(st.integers(1, 3))}}}" for a, b in sorted(links)]
    fabric = "\n".join(["fabric: f", "version: 1", f"backbone: [{', '.join(backbone)}]", "links:", *lines])
    files = {"fabric.yaml": fabric.encode()}
    for n, name in enumerate(names):
        # Neighbouring networks, so that summaries happen; and odd ones, so that they do not always.
        second = f', "fd00:{n}::1/64"' if draw(st.booleans()) else ""
        legs = draw(st.integers(1, 4))
        ports = f"bond: [{', '.join(f'eth{leg}' for leg in range(legs))}]" if legs > 1 else "interface: eth0"
        files[f"{name}.yaml"] = (
            f"site: {name}\nkind: datacenter\nhosts:\n  {name}-gw:\n"
            f"    underlay: {{{ports}, addresses: [203.0.113.{n + 1}/24]}}\n"
            f"    lans: {{lan0: [10.0.{n}.1/24{second}]}}\n"
        ).encode()
        files[f"keys/{name}-gw.pub"] = key(name).encode()
    clients = draw(st.lists(st.sampled_from(names), max_size=3))
    if clients:
        rows = [f"  c{n}: {{public_key: {key(f'c{n}')}, gateway: {name}}}" for n, name in enumerate(clients)]
        files["clients.yaml"] = "\n".join(["clients:", *rows]).encode()
    return files


def good(files: dict[str, bytes]) -> Compilation:
    result = compile_files(files)
    assert result.fabric is not None and not result.failed, [p.text() for p in result.problems]
    return result


@settings(max_examples=60, deadline=None)
@given(networks())
def test_every_network_reaches_every_other_and_the_way_back_is_the_same(files: dict[str, bytes]) -> None:
    result = good(files)
    fabric = result.fabric
    assert fabric is not None
    nodes = fabric.nodes.items()
    connected = {name: node.prefixes for name, node in nodes}
    held = {name: plan.resources for name, plan in result.plans().items()}
    walker = Walker(held, connected, {name: str(node.key) for name, node in nodes})
    places = [(name, prefix) for name, node in fabric.nodes.items() for prefix in node.prefixes]
    for host, source in places:
        for other, target in places:
            if source.version == target.version:
                there = walker.walk(host, inside(source), inside(target))
                back = walker.walk(other, inside(target), inside(source))
                assert there == back[::-1]


@st.composite
def groups(draw: st.DrawFn) -> dict[str, bytes]:
    """The same with two or three gateways at some sites, and no mesh, in which a host stands alone."""
    files = draw(networks())
    lines = [line for line in files["fabric.yaml"].decode().splitlines() if not line.startswith("backbone")]
    files["fabric.yaml"] = "\n".join(lines).encode()
    files.pop("clients.yaml", None)
    for path in sorted(files):
        number = draw(st.integers(1, 3)) if re.fullmatch(r"s\d\.yaml", path) else 1
        if number == 1:
            continue
        site = path.removesuffix(".yaml")
        text = files[path].decode()
        n = int(re.findall(r"10\.0\.(\d)\.1/24", text)[0])
        hosts = [f"{site}-gw"]
        for more in range(2, number + 1):
            hosts.append(f"{site}-gw{more}")
            host = text.split(f"  {site}-gw:\n")[1].replace(f"203.0.113.{n + 1}/", f"203.0.113.{n + 1 + 50 * more}/")
            lans = host.replace(f"10.0.{n}.1/24", f"10.0.{n}.{more}/24").replace(f"fd00:{n}::1/", f"fd00:{n}::{more}/")
            files[path] += f"  {site}-gw{more}:\n{lans}".encode()
            files[f"keys/{site}-gw{more}.pub"] = key(f"{site}{more}").encode()
        order = ", ".join(draw(st.permutations(hosts)))
        files[path] += f"gateways: {{hosts: [{order}], virtual: [10.0.{n}.254]}}\n".encode()
    return files


@settings(max_examples=60, deadline=None)
@given(groups())
def test_groups_reach_each_other_and_the_way_back_is_the_same_for_groups(files: dict[str, bytes]) -> None:
    world = Groups(good(files))
    for (site, source), (other, target) in world.pairs():
        there, back = world.walk(site, source, target), world.walk(other, target, source)
        assert there == back[::-1]


@settings(max_examples=100, deadline=None)
@given(groups(), st.data())
def test_one_dead_tunnel_or_gateway_of_a_group_cuts_nothing_off(files: dict[str, bytes], data: st.DataObject) -> None:
    world = Groups(good(files))
    fabric = world.fabric
    tunnels = [tunnel for edge in fabric.edges if edge.grouped for tunnel in edge.tunnels]
    gateways = [node.name for group in fabric.groups.values() for node in group.nodes]
    if not tunnels:
        return
    gone = data.draw(st.sampled_from([None, *gateways]), "gateway")
    if gone is None:
        world.kill([data.draw(st.sampled_from(tunnels), "tunnel")])
    else:
        world.kill([tunnel for edge in fabric.edges for tunnel in edge.tunnels if gone in tunnel.ends], gone)
    for (site, source), (_, target) in world.pairs():
        world.walk(site, source, target)


class Groups:
    """A network whose hosts hold what is left of their plans when tunnels, or a gateway, are dead."""

    def __init__(self, result: Compilation) -> None:
        assert result.fabric is not None
        self.fabric, self.plans = result.fabric, result.plans()
        self.kill(())

    def kill(self, tunnels: Iterable[Tunnel], gone: str = "") -> None:
        dead = {(host, end.dev) for tunnel in tunnels for host, end in tunnel.ends.items()}
        live = {name: node for name, node in self.fabric.nodes.items() if name != gone}
        held = {host: self._held(host, dead) for host in live}
        addresses = {host: [a for lan in n.model.lans.values() for a in lan.addresses] for host, n in live.items()}
        connected = {host: [address.network for address in found] for host, found in addresses.items()}
        owners = {address.address: host for host, found in addresses.items() for address in found}
        self.walker = Walker(held, connected, {host: str(node.key) for host, node in live.items()}, owners, dead)
        self.active = {
            site: max((node.name for node in nodes if node.name != gone), key=lambda host: _priority(held[host]))
            for site, nodes in self.fabric.sites.items()
        }
        """Site -> who has its virtual address: of those that live the one with the best priority."""

    def _held(self, host: str, dead: set[tuple[str, str]]) -> list[Resource]:
        plan = self.plans[host]
        watched = {tunnel.dev for watch in plan.runtime.watches or () for tunnel in watch.tunnels}
        return wanted(plan, frozenset(dev for dev in watched if (host, dev) not in dead))

    def pairs(self) -> list[tuple[tuple[str, Prefix], tuple[str, Prefix]]]:
        """Every two LANs of one family, each with its site, of the families that all gateways have between them."""
        lans = [(node.site, lan) for node in self.fabric.nodes.values() for lan in node.networks]
        shared = {4, 6}
        for group in self.fabric.groups.values():
            shared &= {network.version for segment in group.segments for network in segment.networks}
        return [(a, b) for a in lans for b in lans if a[1].version == b[1].version and a[1].version in shared]

    def walk(self, site: str, source: Prefix, target: Prefix) -> list[str]:
        """The sites that a packet from one LAN to another passes. Raises AssertionError where it is lost."""
        hosts = self.walker.walk(self.active[site], inside(source), inside(target))
        return [name for name, _ in groupby(self.fabric.nodes[host].site for host in hosts)]


def _priority(held: list[Resource]) -> int:
    configs = [one.config for one in held if isinstance(one, Service) and one.name == "keepalived"]
    return int(re.findall(r"priority (\d+)", configs[0])[0]) if configs else 0


def inside(prefix: Prefix) -> str:
    return address_text(prefix.version, min(prefix.first + 7, prefix.last))


@settings(max_examples=30, deadline=None)
@given(networks(), st.randoms(use_true_random=False))
def test_the_order_of_files_changes_nothing(files: dict[str, bytes], shuffle: random.Random) -> None:
    items = list(files.items())
    shuffle.shuffle(items)
    assert {h: p.canonical() for h, p in good(dict(items)).plans().items()} == {
        h: p.canonical() for h, p in good(files).plans().items()
    }


@settings(max_examples=60, deadline=None)
@given(networks(), st.data())
def test_with_a_lock_adding_or_removing_anything_moves_no_other_number(
    files: dict[str, bytes], data: st.DataObject
) -> None:
    first = good(files).fabric
    assert first is not None
    locked = {**files, "fabric.lock": lock_text(first.lock).encode()}
    changed = dict(locked)
    if data.draw(st.booleans(), "remove"):
        gone = data.draw(st.sampled_from(sorted(first.sites)))
        if len(first.sites) < 3:
            return
        host = first.sites[gone][0].name
        if any(client.gateway == host for client in first.clients.values()):
            return
        changed = {path: text for path, text in changed.items() if path not in (f"{gone}.yaml", f"keys/{host}.pub")}
        lines = files["fabric.yaml"].decode().splitlines()
        kept = [line for line in lines if "between" not in line or not re.search(rf"\b{gone}\b", line)]
        text = "\n".join(kept).replace(f"{gone}, ", "").replace(f", {gone}", "").replace(f"[{gone}]", "[]")
        changed["fabric.yaml"] = (text if "between" in text else text.replace("links:", "")).encode()
    else:
        changed["aaa.yaml"] = b"site: aaa\nkind: edge\nhosts: {aaa-gw: {underlay: {interface: eth0}}}\n"
        changed["keys/aaa-gw.pub"] = key("aaa").encode()
        changed["fabric.yaml"] += f"\n  - {{between: [aaa, {sorted(first.sites)[0]}], tunnels: 2}}\n".encode()
    second = compile_files(changed).fabric
    assert second is not None
    for entry, value in second.lock.items():
        assert first.lock.get(entry, value) == value


@settings(max_examples=60, deadline=None)
@given(networks(), st.data())
def test_a_rotation_makes_before_it_breaks(files: dict[str, bytes], data: st.DataObject) -> None:
    """One host after the other gets a new key, some of them several times."""
    numbers = dict.fromkeys(sorted(good(files).hosts), 1)
    before = good(with_lock(files))
    for host in data.draw(st.lists(st.sampled_from(sorted(numbers)), min_size=1, max_size=4), "rotated"):
        numbers[host] += 1
        new, old = (f"keys/{host}.{number}.pub" for number in (numbers[host], numbers[host] - 1))
        files = {**files, new: key(f"{host}{numbers[host]}").encode()}
        both = good(files := with_lock(files))
        files = {path: text for path, text in files.items() if path != old.replace(".1.pub", ".pub")}
        after = good(files := with_lock(files))
        for name, plan in both.plans().items():
            assert tunnels(before.plan(name)) <= tunnels(plan), "the first commit only adds"
            assert tunnels(after.plan(name)) <= tunnels(plan), "the second only takes away"
            assert ways(before.plan(name).resources) == ways(plan.resources), "nothing moves by itself"
            assert ways(wanted(plan, sessions=awaited(plan.runtime))) == ways(after.plan(name).resources), (
                "all has moved before"
            )
            assert not Desired.of(plan.resources, KINDS).clashes
        before = after


def with_lock(files: dict[str, bytes]) -> dict[str, bytes]:
    fabric = good(files).fabric
    assert fabric is not None
    return {**files, "fabric.lock": lock_text(fabric.lock).encode()}


def wanted(
    plan: HostPlan, alive: frozenset[str] | None = None, sessions: frozenset[Key] = frozenset()
) -> list[Resource]:
    """What an agent makes of a plan while these tunnels are alive, or all, and these new keys have sessions."""
    if alive is None:
        alive = frozenset(tunnel.dev for watch in plan.runtime.watches or () for tunnel in watch.tunnels)
    composed = compose(plan, "", {}, KINDS, alive, sessions)
    return [one for kind in KINDS for _, one in composed.of_plan(kind)]


def tunnels(plan: HostPlan) -> set[Resource]:
    """All but the device of roaming clients, who have no agent and take a new key by hand."""
    kinds = ("link", "wireguard", "peer", "address")
    return {r for r in plan.resources if r.kind in kinds and "wg-clients" not in r.key}


def ways(found: Iterable[Resource]) -> dict[Key, set[str]]:
    """Route -> the devices that it leads to."""
    found = list(found)
    nexthops = {r.id: r for r in found if isinstance(r, Nexthop)}
    out = {number: {nexthop.dev or ""} for number, nexthop in nexthops.items() if not nexthop.group}
    for number, nexthop in nexthops.items():
        if nexthop.group:
            out[number] = set().union(*(out[member.id] for member in nexthop.group))
    return {r.key: out[r.nhid] if r.nhid else {r.dev or ""} for r in found if isinstance(r, Route)}


@settings(max_examples=60, deadline=None)
@given(networks())
def test_tunnels_ride_evenly_on_the_legs_of_bonds(files: dict[str, bytes]) -> None:
    """Also while keys are rotated, and whatever else listens on these hosts."""
    host = next(path for path in sorted(files) if path.startswith("keys/"))
    fabric = good({**with_lock(files), host.replace(".pub", ".2.pub"): key("new").encode()}).fabric
    assert fabric is not None
    for edge in fabric.edges:
        for node, tunnels in ((node, those) for node in (edge.a, edge.b) for those in (edge.tunnels, edge.successors)):
            bond = node.model.underlay.bond
            if bond is None or edge.kind != "link":
                continue
            riding = Counter(tunnel.ends[node.name].leg for tunnel in tunnels)
            counts = [riding.pop(leg, 0) for leg in range(len(bond.members))]
            assert max(counts) - min(counts) <= 1 and not riding


MUTATIONS = ("cut", "insert", "repeat", "swap", "drop")
JUNK = [
    b"\xff\xfe", b"\x00", b"&a [*a]", b"{", b"}", b"]", b": ", b"- ", b"\t", b"!!python/object:os.system", b"~",
    b"9" * 50, b"0.0.0.0/0", b"::/0", b"-1", b"null", b"*x", b"&x ", b"<<: ", b"%YAML 1.1\n", b"---\n", b"...\n",
    b"\r\n", b"'", b'"', b"nas", b"ams-gw1", b"10.10.0.1/16", b"true", b"1e400", b"[[[[[[", b"\xe2\x80\xa8", b"#",
    b"|", b">",
]  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_a_mutated_repository_gives_problems_or_plans_and_never_an_exception(data: st.DataObject) -> None:
    files = dict(EXAMPLE)
    for _ in range(data.draw(st.integers(1, 4))):
        path = data.draw(st.sampled_from(sorted(files)))
        content = files[path]
        at = data.draw(st.integers(0, len(content)))
        end = data.draw(st.integers(at, min(len(content), at + 40)))
        match data.draw(st.sampled_from(MUTATIONS)):
            case "cut":
                files[path] = content[:at] + content[end:]
            case "insert":
                files[path] = content[:at] + data.draw(st.sampled_from(JUNK)) + content[at:]
            case "repeat":
                files[path] = content[:end] + content[at:end] * 3 + content[end:]
            case "swap":
                files[path] = files[data.draw(st.sampled_from(sorted(files)))]
            case "drop" if len(files) > 1:
                del files[path]
    result = compile_files(files)
    assert result.fabric is not None or result.failed
    for problem in result.problems:
        assert problem.code.startswith("GW") and problem.message and problem.place.path
    for host in result.hosts:
        result.plan(host).canonical()


def test_the_same_repository_gives_the_same_bytes_in_every_process() -> None:
    """Hash seeds differ from process to process; nothing may depend on the order of a set."""
    import subprocess
    import sys

    program = (
        "import pathlib; from compiler.compile import compile_files; from compiler.shell.inputs import read_folder;"
        "print([p.digest for p in compile_files(read_folder(pathlib.Path('sites')).files).plans().values()])"
    )
    root = Path(__file__).parents[3]
    found = {
        subprocess.run(
            [sys.executable, "-c", program], cwd=root, env={"PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(found) == 1
