from __future__ import annotations

from pathlib import Path

from compiler.compile import compile_files
from compiler.fabric.model import Fabric
from compiler.shell.inputs import read_folder
from lab.blueprint import Blueprint
from lab.draw import draw
from lab.provider.places import GATES, OUTSIDE, OUTSIDE_NAME, add, kinds_of

CASES = Path(__file__).parents[4] / "tests" / "golden" / "compile"


def fabric(case: str) -> Fabric:
    found = compile_files(read_folder(CASES / case / "input").files).fabric
    assert found is not None
    return found


def drawn(case: str) -> Blueprint:
    plan = draw(fabric(case))
    add(plan, fabric(case))
    return plan


def test_a_network_without_exits_has_no_provider() -> None:
    assert kinds_of(fabric("two-sites")) == []
    assert drawn("two-sites") == draw(fabric("two-sites"))


def test_only_the_providers_that_are_named_are_played() -> None:
    plan = drawn("exits")
    assert kinds_of(fabric("exits")) == ["pia"]
    assert "pia-api" in plan.spaces and "mullvad-api" not in plan.spaces
    assert plan.lines.keys() == {gate.id for gate in GATES if gate.kind == "pia"}


def test_exits_by_sites_of_ours_need_nobody_but_a_service_outside() -> None:
    plan, bare = drawn("exit-by-a-site"), draw(fabric("exit-by-a-site"))
    assert plan.spaces.keys() - bare.spaces.keys() == {OUTSIDE}
    assert plan.names["cp.cloudflare.com"] == plan.names[OUTSIDE_NAME]
    assert not plan.lines and plan.notes == bare.notes


def test_names_of_providers_and_of_checks_lead_to_the_twins() -> None:
    names = drawn("exits").names
    assert drawn("exits").names6 == dict.fromkeys(("cp.cloudflare.com", OUTSIDE_NAME), "2001:db8:fe:66::2")
    assert names["serverlist.piaservers.net"] == names["www.privateinternetaccess.com"]
    assert names["cp.cloudflare.com"] == names[OUTSIDE_NAME]
    assert f"address add {names[OUTSIDE_NAME]}/24 dev eth0" in drawn("exits").spaces[OUTSIDE].ip


def test_every_gate_has_addresses_and_devices_of_its_own() -> None:
    for field in ("id", "space", "address", "address6", "tunnel"):
        values = [getattr(gate, field) for gate in GATES]
        assert len(values) == len(set(values)), field
    assert all(len(gate.tunnel) <= 15 for gate in GATES)
    for kind in ("pia", "mullvad"):
        assert len({gate.region for gate in GATES if gate.kind == kind}) >= 5
