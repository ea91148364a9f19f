"""Ways against a search of every path: packets walked through the plans of dense networks, with many ways as short."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import combinations, pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from bench.generate import key
from compiler.compile import Compilation, compile_files
from schema.ip import Prefix
from schema.plan import Route
from tests.unit.compiler.test_properties import Groups, good, groups
from tests.unit.compiler.walk import Walker, contains, of

Pairs = set[tuple[str, str]]


def network(names: Iterable[str], links: Pairs, backbone: Iterable[str] = ()) -> dict[str, bytes]:
    """A repository of sites with one host and one LAN each."""
    lines = [f"  - {{between: [{a}, {b}], tunnels: 1}}" for a, b in sorted(links)]
    text = ["fabric: f", "version: 1", f"backbone: [{', '.join(backbone)}]", "links:" if lines else "", *lines]
    files = {"fabric.yaml": "\n".join(text).encode()}
    for n, name in enumerate(names):
        files[f"{name}.yaml"] = (
            f"site: {name}\nkind: datacenter\nhosts:\n  {name}-gw:\n"
            f"    underlay: {{interface: eth0, addresses: [203.0.113.{n + 1}/24]}}\n"
            f"    lans: {{lan0: [10.0.{n}.1/24]}}\n"
        ).encode()
        files[f"keys/{name}-gw.pub"] = key(name).encode()
    return files


@st.composite
def dense(draw: st.DrawFn, most: int = 9) -> tuple[list[str], Pairs]:
    """Sites and the links between them: a tree, and every other link as likely as not."""
    names = draw(st.permutations([f"s{n}" for n in range(draw(st.integers(4, most)))]))
    links = {_pair(names[n], names[draw(st.integers(0, n - 1))]) for n in range(1, len(names))}
    more = [pair for pair in combinations(sorted(names), 2) if pair not in links]
    share = draw(st.sampled_from([0.2, 0.4, 0.6]))
    return names, links | {pair for pair in more if draw(st.floats(0, 1)) < share}


def _pair(a: str, b: str) -> tuple[str, str]:
    return (a, b) if a < b else (b, a)


def walker_of(result: Compilation) -> Walker:
    fabric = result.fabric
    assert fabric is not None
    held = {name: plan.resources for name, plan in result.plans().items()}
    nodes = fabric.nodes.items()
    return Walker(held, {name: node.prefixes for name, node in nodes}, {name: str(node.key) for name, node in nodes})


def shortest(links: Pairs, start: str, end: str) -> list[list[str]]:
    """Every path with the fewest links: a breadth-first search that forgets nothing."""
    found = [[start]]
    while not any(path[-1] == end for path in found):
        found = [
            [*path, other]
            for path in found
            for link in links
            if path[-1] in link and (other := link[link[0] == path[-1]]) not in path
        ]
    return [path for path in found if path[-1] == end]


def last_names(path: list[str]) -> list[tuple[str, str]]:
    """The links of a path, the one whose name sorts last first."""
    return sorted((_pair(a, b) for a, b in pairwise(path)), reverse=True)


@st.composite
def grids(draw: st.DrawFn) -> tuple[list[str], Pairs]:
    """Sites in rows and columns, with names dealt at random: between two corners there are six ways of four links."""
    names = draw(st.permutations([f"s{n}" for n in range(9)]))
    across = [(n, n + 1) for n in range(9) if n % 3 < 2]
    return names, {_pair(names[a], names[b]) for a, b in [*across, *((n, n + 3) for n in range(6))]}


@settings(max_examples=40)
@given(st.one_of(dense(), grids()))
def test_a_way_has_the_fewest_links_and_of_those_goes_without_the_name_that_sorts_last(
    net: tuple[list[str], Pairs],
) -> None:
    names, links = net
    walker = walker_of(good(network(names, links)))
    number = {name: n for n, name in enumerate(names)}
    for a in names:
        for b in names:
            there = walker.walk(f"{a}-gw", f"10.0.{number[a]}.7", f"10.0.{number[b]}.7")
            assert [host.removesuffix("-gw") for host in there] == min(shortest(links, a, b), key=last_names)


@settings(max_examples=20)
@given(dense(7), st.data())
def test_a_mesh_is_a_link_between_every_two_of_its_members(net: tuple[list[str], Pairs], data: st.DataObject) -> None:
    names, links = net
    mesh = data.draw(st.lists(st.sampled_from(names), unique=True, max_size=4))
    walker = walker_of(good(network(names, links, mesh)))
    number = {name: n for n, name in enumerate(names)}
    every = links | {_pair(a, b) for a, b in combinations(mesh, 2)}
    for a in names:
        for b in names:
            there = walker.walk(f"{a}-gw", f"10.0.{number[a]}.7", f"10.0.{number[b]}.7")
            back = walker.walk(f"{b}-gw", f"10.0.{number[b]}.7", f"10.0.{number[a]}.7")
            assert there == back[::-1] and len(there) == len(shortest(every, a, b)[0])


@settings(max_examples=15)
@given(groups(), st.data())
def test_a_gateway_without_a_key_cuts_nobody_else_off(files: dict[str, bytes], data: st.DataObject) -> None:
    """Its neighbours keep the tunnels to the other gateways of its site."""
    fabric = good(files).fabric
    assert fabric is not None
    gateways = [node.name for group in fabric.groups.values() for node in group.nodes]
    if not gateways:
        return
    bare = data.draw(st.sampled_from(gateways), "without a key")
    result = compile_files({path: text for path, text in files.items() if path != f"keys/{bare}.pub"})
    assert [problem.code for problem in result.problems if problem.severity == "error"] == ["GW023"]
    world = Keyless(result)
    for (site, source), (_, target) in world.pairs():
        world.walk(site, source, target)


class Keyless(Groups):
    """Packets pass the hosts that have a plan."""

    def __init__(self, result: Compilation) -> None:
        assert result.fabric is not None
        self.fabric, self.plans = result.fabric, result.plans()
        (self.bare,) = self.fabric.nodes.keys() - self.plans.keys()
        self.kill((), self.bare)


def test_gateways_that_stand_on_a_lan_with_another_host_each_send_to_it_themselves() -> None:
    files = network([], set())
    files["n.yaml"] = (
        b"site: n\nkind: datacenter\nhosts:\n"
        b"  b: {underlay: {interface: eth0, addresses: [203.0.113.1/24]}, lans: {lan0: [10.0.0.1/24]}}\n"
        b"  m: {underlay: {interface: eth0, addresses: [203.0.113.2/24]},"
        b" lans: {lan0: [10.0.0.2/24], lan1: [10.0.1.2/24]}}\n"
        b"  z: {underlay: {interface: eth0, addresses: [203.0.113.3/24]}, lans: {lan0: [10.0.0.3/24]}}\n"
        b"gateways: {hosts: [b, z], virtual: [10.0.0.254]}\n"
    )
    files |= {f"keys/{name}.pub": key(name).encode() for name in "bmz"}
    plans = good(files).plans()
    for gateway in "bz":
        routes = of(plans[gateway].resources, Route)
        assert {route.via for route in routes if contains(Prefix.parse(route.dst), "10.0.1.7")} == {"10.0.0.2"}
