"""What a host with exits takes of routing tables, marks and nexthops: each once, and out of their ranges."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from compiler.compile import Compilation, compile_files
from reconciler.converge.diff import Desired
from reconciler.kinds import KINDS
from reconciler.loops.exits.overlay import Held, Placed, overlay
from schema.plan import Exit, HostPlan, Nexthop, Route, Rule, SecretRef
from schema.plan.ranges import EXIT_NEXTHOPS, EXIT_TABLES, EXITS_PER_HOST, REFUSED_TABLE, SLOT_TABLES
from tests.unit.reconciler.loops.exits.samples import KEY, gateway, session

PUBLIC = "pKDfcOunqO0Wh9DaeO374yWTYZ1pmFloPkjsMHqAdJ0="
BOTH = ("10.64.0.2/32", "fd00:64::2/128")


def network(exits: dict[str, Any]) -> Compilation:
    host = {"underlay": {"interface": "eth0", "addresses": "dhcp"}, "exits": exits}
    fabric = {"fabric": "wan", "version": 1}
    files = {
        "fabric.yaml": json.dumps(fabric).encode(),
        "home.yaml": json.dumps({"site": "home", "kind": "edge", "hosts": {"nas": host}}).encode(),
        "keys/nas.pub": PUBLIC.encode(),
    }
    return compile_files(files)


def static(n: int, **more: Any) -> dict[str, Any]:
    there = {"endpoint": f"198.51.100.{n + 1}:51820", "public_key": PUBLIC, "addresses": list(_bare())}
    takers = [f"dev br{n}", *(["self"] if n == 0 else [])]
    return {"provider": "static", "gateways": {"g": there}, "dns": "9.9.9.9", "for": takers, **more}


def _bare() -> tuple[str, ...]:
    return tuple(address.split("/")[0] for address in BOTH)


def plan_of(exits: dict[str, Any]) -> HostPlan:
    result = network(exits)
    assert not result.failed, [problem.text() for problem in result.problems]
    return result.plan("nas")


def full(exit: Exit) -> Held:
    """An exit of which every tunnel carries both families."""
    there = [Placed(slot, session(gateway(f"g{n}", n + 1), *BOTH), True) for n, slot in enumerate(exit.slots)]
    return Held(exit, SecretRef(secret="key", fingerprint=KEY), there)


uses = st.lists(st.tuples(st.integers(1, 8), st.sampled_from(["move", "drain"])), min_size=1, max_size=EXITS_PER_HOST)


@given(uses)
def test_nothing_of_one_exit_is_anothers_or_out_of_its_range(wanted: list[tuple[int, str]]) -> None:
    plan = plan_of({f"e{n}": static(n, use=use, on_switch=how) for n, (use, how) in enumerate(wanted)})
    exits = plan.runtime.exits or ()
    tables = [table for exit in exits for table in (exit.table, *(slot.table for slot in exit.slots))]
    assert len(tables) == len(set(tables))
    assert all(table in _numbers(EXIT_TABLES) or table in _numbers(SLOT_TABLES) for table in tables)
    more = overlay([full(exit) for exit in exits])
    nexthops = [one.id for one in more if isinstance(one, Nexthop)]
    assert len(nexthops) == len(set(nexthops)) and all(number in _numbers(EXIT_NEXTHOPS) for number in nexthops)
    assert Desired.of([*plan.resources, *more], KINDS).clashes == ()
    used = {one.table for one in (*plan.resources, *more) if isinstance(one, Route | Rule)}
    assert used <= {*tables, REFUSED_TABLE.first, 254}


def _numbers(of: Any) -> range:
    return range(of.first, of.last + 1)


def test_a_host_has_as_many_exits_as_there_are_tables() -> None:
    most = {f"e{n}": static(n) for n in range(EXITS_PER_HOST)}
    assert not network(most).failed
    (problem,) = network({**most, "e-more": static(EXITS_PER_HOST)}).problems
    assert f"at most {EXITS_PER_HOST} items" in problem.message
