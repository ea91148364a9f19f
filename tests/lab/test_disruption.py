"""What a plan diff announces is what a change costs, counted in packets under load and in handshakes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from bench import flows
from compiler.compile import compile_files
from compiler.review.diff import diff_plans
from compiler.shell.inputs import read_folder
from schema.plan import Disruption, HostPlan
from tests.lab.edits import edit
from tests.lab.paced import paced, shares, ways
from tests.lab.twin import Twin, eventually

pytestmark = [pytest.mark.root, pytest.mark.lab, pytest.mark.timeout(600)]

ENDS = ("ams-gw1", "fra-gw1")


def link(**words: object) -> Callable[[Any], None]:
    """The link between ams and fra, otherwise."""
    return lambda fabric: fabric["links"][0].update(words)


def lan(document: Any) -> None:
    document["hosts"]["ams-gw1"]["lans"]["eno4"].append("10.99.0.1/24")


CHANGES: list[tuple[str, str, Callable[[Any], None], tuple[int, ...]]] = [
    ("a network more", "ams.yaml", lan, ()),
    ("another keepalive", "fabric.yaml", link(keepalive="7s"), ()),
    ("another health", "fabric.yaml", link(health={"interval": "300ms", "hold": "1s"}), ()),
    ("a smaller MTU", "fabric.yaml", link(mtu=1400), ()),
    ("a fourth tunnel", "fabric.yaml", link(tunnels=4), (1, 1, 1, 1)),
    ("weights", "fabric.yaml", link(weights=[3, 1, 1, 1]), (3, 1, 1, 1)),
    ("other weights", "fabric.yaml", link(weights=[1, 1, 1, 2]), (1, 1, 1, 2)),
]


def plans(twin: Twin) -> dict[str, HostPlan]:
    found = read_folder(twin.sites)
    result = compile_files(found.files, found.special)
    assert not result.failed, [problem.text() for problem in result.problems]
    return dict(result.plans())


def sessions(twin: Twin) -> dict[tuple[str, str], int]:
    """(host, device) -> when its last handshake was, in seconds since the epoch."""
    lines = {host: twin.run(host, "wg show all latest-handshakes").splitlines() for host in ENDS}
    return {(host, line.split()[0]): int(line.split()[2]) for host in ENDS for line in lines[host]}


@pytest.mark.parametrize("name, file, change, weights", CHANGES, ids=[change[0] for change in CHANGES])
def test_a_change_costs_what_was_announced(
    twin: Twin, name: str, file: str, change: Callable[[Any], None], weights: tuple[int, ...]
) -> None:
    """`weights` are what the tunnels' shares of the flows come to where that changes."""
    announced = Disruption.REORDERS if weights else Disruption.NONE
    before = plans(twin)
    edit(twin.sites / file, change)
    twin.lock()
    assert diff_plans(before, plans(twin)).disruption == announced
    found: dict[int, flows.Flow] = {}
    with paced(twin, found):
        way, handshakes = ways(twin), sessions(twin)
        twin.converged(twin.push(name))
        if weights:
            eventually(lambda: spread(twin, weights), 90.0, f"shares of {weights}, though flows never rest")
        later, moved = sessions(twin), {flow for flow, dev in ways(twin).items() if dev != way[flow]}
    assert not (lost := {flow: one.lost for flow, one in found.items() if one.lost}), lost
    assert not (torn := {key for key, at in handshakes.items() if later[key] - at not in range(-1, 2) and young(at)}), (
        torn
    )
    # Where shares change, idle buckets go first: a few flows among a thousand buckets may all stay where they are.
    assert not moved or weights
    print(
        f"{name}: {announced.text}: none lost of {sum(len(one.arrivals) for one in found.values())}, {len(moved)} moved"
    )


def spread(twin: Twin, weights: tuple[int, ...]) -> bool:
    """Whether the tunnels have their shares of the buckets, right to one."""
    found = shares(twin)
    total, every = sum(found.values()), sum(weights)
    return all(abs(found[f"wg-fra-{n}"] - total * weight / every) <= 1 for n, weight in enumerate(weights, 1))


def young(handshake: int) -> bool:
    """Whether a session was far from being renewed anyway, which happens every two minutes."""
    return time.time() - handshake < 100
