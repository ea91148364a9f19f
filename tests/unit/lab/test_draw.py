from __future__ import annotations

from pathlib import Path

import pytest

from compiler.compile import compile_files
from compiler.shell.inputs import read_folder
from lab.blueprint import Blueprint
from lab.draw import draw

ROOT = Path(__file__).parents[3]
CASES = sorted((ROOT / "tests" / "golden" / "compile").iterdir())


def drawn(folder: Path) -> Blueprint:
    fabric = compile_files(read_folder(folder).files).fabric
    assert fabric is not None
    return draw(fabric)


@pytest.fixture(scope="module")
def example() -> Blueprint:
    return drawn(ROOT / "sites")


def test_the_example_has_a_machine_on_every_network(example: Blueprint) -> None:
    assert sorted(endpoint.network for endpoint in example.endpoints) == [
        "ams", "callserver-sg-1", "fra", "home", "ireland", "laptop", "singapore", "virginia",
    ]  # fmt: skip
    assert all(endpoint.addresses.keys() == {4, 6} for endpoint in example.endpoints)


def test_the_home_is_behind_nat_and_the_regions_are_translated_one_to_one(example: Blueprint) -> None:
    assert example.spaces["isp-nas"].nat == ["-A POSTROUTING -o wan -j MASQUERADE"]
    assert "-A PREROUTING -i wan -d 192.0.2.11 -j DNAT --to-destination 10.1.0.10" in example.spaces["net-ireland"].nat


def test_a_bond_is_said_to_be_one_port(example: Blueprint) -> None:
    assert example.notes == ["ams-gw1: the bond bond0 of 3 ports is one virtual port here"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_end_of_a_wire_is_a_space_and_no_interface_is_there_twice(case: Path) -> None:
    plan = drawn(case / "input")
    ends = [end for wire in plan.wires for end in (wire.a, wire.b)]
    assert len(ends) == len(set(ends))
    assert {space for space, _ in ends} <= plan.spaces.keys()
    assert all(len(dev) <= 15 for _, dev in ends)


def test_machines_send_to_the_virtual_address_where_there_is_one() -> None:
    plan = drawn(ROOT / "tests" / "golden" / "compile" / "gateways-at-both-ends" / "input")
    assert "route add default via 10.10.0.254" in plan.spaces["a-server"].ip
    assert "route add default via fd00:10::fe" in plan.spaces["a-server"].ip
    assert "route add default via 10.20.0.2" in plan.spaces["b-pc"].ip
