"""Which ports tunnels listen on: what is written before what the lock names, before what is free."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bench.generate import key
from compiler.compile import Compilation, compile_files
from schema.lock import lock_text


def network(tunnels: int, ports: dict[str, list[int]] | None = None, lock: str = "", **fabric: Any) -> Compilation:
    """Two sites with bonds of two legs, and a third that both are linked to."""
    link: dict[str, Any] = {"between": ["a", "b"], "tunnels": tunnels} | ({"ports": ports} if ports else {})
    links = [link, {"between": ["a", "c"], "tunnels": 2}, {"between": ["b", "c"]}]
    files: dict[str, Any] = {"fabric.yaml": {"fabric": "f", "version": 1, "links": links, **fabric}}
    for n, site in enumerate("abc"):
        underlay = {"bond": ["eth0", "eth1"], "addresses": [f"203.0.113.{n + 1}/24"]}
        files[f"{site}.yaml"] = {"site": site, "kind": "datacenter", "hosts": {f"{site}-gw": {"underlay": underlay}}}
    texts = {path: json.dumps(one).encode() for path, one in files.items()} | {"fabric.lock": lock.encode()}
    return compile_files(texts | {f"keys/{site}-gw.pub": key(site).encode() for site in "abc"})


def ports_of(result: Compilation, host: str, edge: str) -> list[int]:
    assert result.fabric is not None, [problem.text() for problem in result.problems]
    (found,) = (one for one in result.fabric.edges if one.name == edge)
    return [tunnel.ends[host].port for tunnel in found.tunnels]


def spread(result: Compilation, edge: str) -> list[int]:
    """By how many tunnels the legs of each end differ."""
    assert result.fabric is not None
    (found,) = (one for one in result.fabric.edges if one.name == edge)
    counts = []
    for node in (found.a, found.b):
        legs = [tunnel.ends[node.name].leg for tunnel in found.tunnels]
        counts.append(abs(legs.count(0) - legs.count(1)))
    return counts


@pytest.mark.parametrize("written", [[6000], [6000, 6001, 6002]])
def test_one_port_is_written_for_each_tunnel(written: list[int]) -> None:
    (problem,) = network(2, {"a": written}).problems
    assert problem.code == "GW042" and f"{len(written)} ports for 2 tunnels" in problem.message


def test_what_is_written_for_one_end_stays_and_the_other_end_is_chosen_for_it() -> None:
    for written in ([6000, 6001, 6002, 6003], [6000, 6002, 6004, 6006]):
        result = network(4, {"a": written})
        assert ports_of(result, "a-gw", "a-gw~b-gw") == written
        assert spread(result, "a-gw~b-gw")[1] == 0, "the far end's ports spread them, given these"


def test_what_is_written_now_goes_before_what_the_lock_names() -> None:
    first = network(2)
    assert first.fabric is not None
    lock = lock_text(first.fabric.lock)
    before = ports_of(first, "a-gw", "a-gw~c-gw")
    taken = ports_of(first, "a-gw", "a-gw~b-gw")
    pinned = network(2, {"a": [before[0], 7000]}, lock)
    assert ports_of(pinned, "a-gw", "a-gw~b-gw") == [before[0], 7000]
    now = ports_of(pinned, "a-gw", "a-gw~c-gw")
    assert now[1] == before[1], "the lock keeps what nobody else has by now"
    assert now[0] not in (before[0], 7000)
    assert len({*ports_of(pinned, "a-gw", "a-gw~b-gw"), *now}) == 4
    assert pinned.fabric is not None and taken


def test_a_pin_that_the_lock_has_otherwise_is_written_into_the_lock_no_more() -> None:
    first = network(2)
    assert first.fabric is not None
    pinned = network(2, {"a": [7000, 7001]}, lock_text(first.fabric.lock))
    assert pinned.fabric is not None and not pinned.failed
    assert ports_of(pinned, "a-gw", "a-gw~b-gw") == [7000, 7001]
    named = {entry[2]: port for entry, port in pinned.fabric.lock.items() if entry[:2] == ("port", "a-gw")}
    assert all(port not in (5000, 5001) or "c-gw" in name for name, port in named.items())


@pytest.mark.parametrize("most", [3, 5, 8])
def test_a_link_that_grows_spreads_its_new_tunnels_given_the_old_ones(most: int) -> None:
    lock, before = "", []
    for tunnels in range(1, most + 1):
        result = network(tunnels, lock=lock)
        assert result.fabric is not None
        lock = lock_text(result.fabric.lock)
        now = ports_of(result, "a-gw", "a-gw~b-gw")
        assert now[: len(before)] == before
        assert all(difference <= 1 for difference in spread(result, "a-gw~b-gw")), (tunnels, now)
        before = now
