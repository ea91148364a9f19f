"""What is declared of a provider of exits is all that language, compiler, agent and lab go by."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import schema.plan.providers as providers
from compiler.compile import Compilation, compile_files
from lab.cli import app
from lab.provider.places import API_NAMES
from reconciler.base.web import Request, Response
from reconciler.loops.exits.providers.base import Gateway, ProviderError
from reconciler.loops.exits.providers.build import ADAPTERS, build
from schema.plan import Exit
from schema.plan.providers import PROVIDERS, ProviderFacts

ROOT = Path(__file__).parents[4]
KEY = "pKDfcOunqO0Wh9DaeO374yWTYZ1pmFloPkjsMHqAdJ0="
ACME = ProviderFacts(name="acme", needs="credentials", discovers=True, countries=False, account="a voucher")
EXAMPLE = ROOT / "tests" / "golden" / "compile" / "exits" / "input"
"""A network with a secret that is sealed to its host."""


@pytest.fixture
def acme(monkeypatch: pytest.MonkeyPatch) -> None:
    """One more provider, known by its line only."""
    monkeypatch.setattr(providers, "PROVIDERS", (*PROVIDERS, ACME))


def files(**exit: Any) -> dict[str, str]:
    host = {"underlay": {"interface": "eth0", "addresses": "dhcp"}, "exits": {"vpn": {"provider": "acme", **exit}}}
    return {
        "fabric.yaml": "fabric: wan\nversion: 1\n",
        "home.yaml": json.dumps({"site": "home", "kind": "edge", "hosts": {"nas": host}}),
        "keys/nas.pub": KEY,
    }


def network(**exit: Any) -> Compilation:
    return compile_files({name: text.encode() for name, text in files(**exit).items()})


def texts(result: Compilation) -> str:
    return "\n".join(problem.text() for problem in result.problems)


def test_a_provider_that_nobody_declared_is_named_with_those_that_there_are() -> None:
    assert "'acme' is no provider: write pia, mullvad, static or site" in texts(network(credentials="voucher"))


def test_the_language_goes_by_what_is_declared(acme: None) -> None:
    assert "an exit of the provider acme needs `credentials`" in texts(network())
    assert "`sites` means nothing to the provider acme: remove it" in texts(network(credentials="v", sites="home"))
    assert "`countries` means nothing to the provider acme: remove it" in texts(
        network(credentials="v", countries="nl")
    )
    assert "acme forwards no ports" in texts(network(credentials="v", port_forward=True))
    # Nothing is wrong with the exit itself: only the secret is nowhere.
    (missing,) = network(credentials="voucher").problems
    assert "voucher" in missing.message


def an_exit(**more: Any) -> Exit:
    from tests.unit.reconciler.loops.exits.samples import an_exit as sample

    return sample(provider="acme", **more)


def built(exit: Exit, folder: Path) -> Any:
    def nobody(request: Request) -> Response:
        raise AssertionError(request.title)

    def secret(reference: object) -> bytes:
        return b"a voucher"

    return build(exit, folder, folder, nobody, lambda: 0.0, secret, lambda name: "192.0.2.1")


def test_the_agent_says_what_is_missing(acme: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ProviderError) as caught:
        built(an_exit(), tmp_path)
    assert caught.value.reason == "ProviderUnusable"
    assert caught.value.message == "the provider acme of the exit pia needs `credentials`, and the plan names none"
    credentials = {"secret": "voucher", "fingerprint": "x"}
    with pytest.raises(ProviderError, match="acme of the exit pia is not spoken to by this version of gitwan"):
        built(an_exit(credentials=credentials), tmp_path)

    class Acme:
        def known(self) -> list[Gateway]:
            return []

    monkeypatch.setitem(ADAPTERS, "acme", lambda parts: Acme())  # type: ignore[arg-type, return-value]
    assert built(an_exit(credentials=credentials), tmp_path).known() == []


def test_the_lab_says_that_nobody_plays_it(acme: None, tmp_path: Path) -> None:
    sites = tmp_path / "sites"
    shutil.copytree(EXAMPLE, sites)
    home = sites / "home.yaml"
    kept = [line for line in home.read_text().splitlines() if not re.search("countries|port_forward", line)]
    home.write_text("\n".join(kept).replace("provider: pia", "provider: acme"))
    # A lab's folder has sockets in it, whose paths are short.
    with tempfile.TemporaryDirectory(prefix="gwlab-", dir="/tmp") as folder:
        found = CliRunner().invoke(app, ["up", str(sites), "--lab", f"{folder}/lab"])
    assert (found.exit_code, found.exception.__class__) == (1, SystemExit), found.output
    (line,) = [line for line in found.output.splitlines() if line.startswith("error: ")]
    assert line == (
        "error: the exit pia of nas is of the provider acme, which the lab cannot play: "
        "it has twins of mullvad and pia; remove the exit for the lab"
    )


def test_every_provider_has_an_adapter_and_a_twin_where_it_finds_its_gateways() -> None:
    assert ADAPTERS.keys() == {one.name for one in PROVIDERS}
    assert API_NAMES.keys() == {one.name for one in PROVIDERS if one.discovers}


def test_the_guide_has_a_row_for_each() -> None:
    guide = (ROOT / "docs" / "exits.md").read_text()
    for one in PROVIDERS:
        (row,) = re.findall(rf"^\| `{one.name}` \| (.*) \| .* \|$", guide, re.MULTILINE)
        assert row.startswith(one.account or "none"), row
        assert ("dedicated IP" in row) is one.dedicated_ip
