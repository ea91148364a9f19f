"""What a host with exits takes of routing tables, marks and nexthops: each once, and out of their ranges."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.generate import key
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


def test_the_agent_is_told_what_is_declared() -> None:
    health = {"interval": "5s", "timeout": "1s", "window": 7, "strikes": 4, "loss": "20%", "check": "http://h/x"}
    declared = {"hold": "70s", "cool_down": "80s", "kill_switch": False, "on_switch": "drain", "mtu": 1300, "use": 2}
    (exit,) = plan_of({"e0": static(0, **declared, health={**health, "expect": 200})}).runtime.exits or ()
    assert (exit.name, exit.provider, exit.dns, exit.mtu, exit.use) == ("e0", "static", ("9.9.9.9",), 1300, 2)
    assert (exit.hold, exit.cool_down, exit.kill_switch, exit.on_switch) == (70.0, 80.0, False, "drain")
    assert (exit.lans, exit.own, exit.prefer, exit.ignore, exit.countries) == (("br0",), True, (), (), ())
    told = exit.health
    assert (told.interval, told.timeout, told.window, told.strikes, told.loss) == (5.0, 1.0, 7, 4, 0.2)
    assert (told.check, told.expect) == ("http://h/x", 200)
    (gateway,) = exit.gateways or ()
    assert (gateway.name, gateway.endpoint, gateway.public_key) == ("g", "198.51.100.1:51820", PUBLIC)
    assert gateway.addresses == BOTH and gateway.country == ""
    assert [slot.dev for slot in exit.slots] == ["wg-e0", "wg-e0-2", "wg-e0-3"]


@pytest.mark.parametrize(
    ("degraded", "factor", "threshold"), [("10x", 10.0, None), ("2.5x", 2.5, None), ("200ms", None, 0.2)]
)
def test_degraded_is_a_multiple_or_a_time(degraded: str, factor: float | None, threshold: float | None) -> None:
    (exit,) = plan_of({"e0": static(0, health={"degraded": degraded})}).runtime.exits or ()
    assert (exit.health.factor, exit.health.threshold) == (factor, threshold)


def test_a_gateway_may_have_a_country_and_servers_for_names() -> None:
    there = {"endpoint": "198.51.100.9:51820", "public_key": PUBLIC, "addresses": list(_bare()), "dns": ["10.64.0.1"]}
    gateways = {"g": there | {"country": "se"}}
    declared = static(0, gateways=gateways) | {"dns": "provider", "countries": "se", "prefer": "g", "ignore": "h"}
    declared.pop("countries")
    (exit,) = plan_of({"e0": declared}).runtime.exits or ()
    (gateway,) = exit.gateways or ()
    assert (gateway.country, gateway.dns, exit.dns) == ("se", ("10.64.0.1",), None)
    assert (exit.prefer, exit.ignore) == (("g",), ("h",))


def test_what_is_ours_is_never_sent_into_an_exit_a_vpc_least_of_all() -> None:
    host = {
        "underlay": {"interface": "ens5", "addresses": ["10.20.0.10/24"], "public": "198.51.100.7"},
        "lans": {"lan0": ["10.30.0.1/24"]},
    }
    region = {"site": "r", "kind": "region", "aws": {"region": "eu-west-1", "vpc": "vpc-1", "cidr": "10.20.0.0/16"}}
    far = {"underlay": {"interface": "eth0", "addresses": "dhcp"}, "lans": {"lan0": ["10.40.0.1/24"]}}
    files = {
        "fabric.yaml": json.dumps({"fabric": "wan", "version": 1, "links": [{"between": ["r", "b"]}]}),
        "r.yaml": json.dumps({**region, "hosts": {"nas": host | {"exits": {"e0": static(0, **{"for": ["self"]})}}}}),
        "b.yaml": json.dumps({"site": "b", "kind": "edge", "hosts": {"b-gw": far}}),
        "keys/nas.pub": PUBLIC,
        "keys/b-gw.pub": key("b"),
    }
    result = compile_files({path: text.encode() for path, text in files.items()})
    assert not result.failed, [problem.text() for problem in result.problems]
    (exit,) = result.plan("nas").runtime.exits or ()
    assert {"10.20.0.0/16", "10.30.0.0/24", "10.40.0.0/24"} <= set(exit.ours)
