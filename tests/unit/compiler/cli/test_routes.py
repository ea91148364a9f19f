"""`gitwan routes`, against golden files: one for each form."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from compiler.cli.routes import DHCP, Form
from tests.golden.test_golden import UPDATE
from tests.unit.compiler.cli.test_main import Command, command

__all__ = ["command"]

GOLDEN = Path(__file__).parents[3] / "golden"
SITES = GOLDEN / "compile" / "two-gateways" / "input"


@pytest.mark.parametrize("form", list(Form))
def test_each_form(command: Command, form: Form) -> None:
    words = ["--default", "10.10.0.1", "--default", "10.11.0.1"] if form in DHCP else []
    assert command("routes", "a", "--dir", SITES, "--as", form, *words) == 0
    assert command.err == ""
    path = GOLDEN / "routes" / f"{form}.txt"
    if UPDATE:
        path.write_text(command.out)
    assert command.out == path.read_text()


def test_json_holds_all_of_it(command: Command) -> None:
    assert command("routes", "a", "-C", SITES, "--json") == 0
    found = json.loads(command.out)
    lan = next(lan for lan in found["lans"] if lan["network"] == "10.10.0.0/16")
    assert found["site"] == "a" and lan["via"] == "10.10.0.254" and lan["virtual"] is True
    assert "10.20.0.0/16" in lan["prefixes"] and "10.255.0.0/16" in lan["prefixes"]
    assert bytes(lan["option121"]["octets"]).hex() == lan["option121"]["hex"]


def test_without_a_default_it_says_what_a_client_would_lose(command: Command) -> None:
    assert command("routes", "a", "-C", SITES, "--as", "dnsmasq") == 0
    assert command.err.count("option 3") == 2 and "--default" in command.err


@pytest.mark.parametrize("address", ["fd00:10::1", "10.10.0.1/16", "10.20.0.1", "gw"])
def test_a_default_that_dhcp_cannot_say_is_refused(command: Command, address: str) -> None:
    assert command("routes", "a", "-C", SITES, "--as", "hex", "--default", address) == 1


def test_a_site_that_is_not_there_is_named_with_those_that_are(command: Command) -> None:
    assert command("routes", "c", "-C", SITES) == 1
    assert "no site 'c'" in command.err and "a, b" in command.err
