"""The providers' twins in the lab: a host finds them by the names, the account and the pinned files of real ones."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.client import ask
from lab.provider.places import OUTSIDE, OUTSIDE_NAME
from tests.lab.twin import REPOSITORY, Twin, as_json, cli, playing

pytestmark = [pytest.mark.lab, pytest.mark.root]
SITES = REPOSITORY / "tests" / "golden" / "compile" / "exits" / "input"
REGISTER = """
import json, sys, time
from pathlib import Path
from reconciler.state.config import load
from reconciler.state.keys import secret_reader
from reconciler.loops.exits.providers.build import build
from reconciler.state.store import Store
from reconciler.system import first_address
from reconciler.system.https import sender
from reconciler.base.web import Request

config = load(Path(sys.argv[1]))
store = Store(config.state)
[exit] = store.load_plan(store.confirmed().digest).runtime.exits
secret = secret_reader(config.keys, store.sealed)
provider = build(exit, config.state / "exits", config.pia, sender(exit.marked.bypass), time.time, secret, first_address)
gateways = provider.discover()
session = provider.register(next(g for g in gateways if g.id == sys.argv[2]), sys.argv[3])
check = sender(exit.marked.bypass)(Request("cp.cloudflare.com", "/generate_204", port=80, tls=False))
print(json.dumps({"ids": [g.id for g in gateways], "endpoint": session.endpoint, "check": check.status}))
"""


def _sites(folder: Path) -> Path:
    """The golden case, with an exit of the LAN only, and so no port of the host's: it is free to ask by itself."""
    shutil.copytree(SITES, folder, dirs_exist_ok=True)
    home = folder / "home.yaml"
    home.write_text(home.read_text().replace("port_forward: true\n", "for: lan0\n"))
    return folder


@pytest.fixture(scope="module")
def exits(_root: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Twin]:
    with playing(_sites(tmp_path_factory.mktemp("sites"))) as twin:
        twin.converged(twin.first)
        yield twin


def test_a_host_registers_with_what_its_agent_has(exits: Twin) -> None:
    config, key = exits.folder.host("nas") / "agent.yaml", exits.run("nas", "sh", "-c", "wg genkey | wg pubkey").strip()
    trust = f"SSL_CERT_FILE={exits.folder.provider / 'pia' / 'ca.rsa.4096.crt'}"
    command = ["env", trust, sys.executable, "-c", REGISTER, str(config), "japan/tokyo401", key]
    found = as_json(exits.run("nas", *command))
    assert {"uk/london401", "uk/london402", "uk_2/southampton401", "japan/tokyo401"} <= set(found["ids"])
    assert found["endpoint"].endswith(":1337")
    assert found["check"] == 204
    agent = exits.run("nas", "sh", "-c", "cat /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n'")
    assert trust in agent.splitlines()


def test_the_lab_says_what_it_plays(exits: Twin) -> None:
    assert "pia is a service of the lab, with 7 gateways" in ask(exits.folder, "describe")["notes"]
    assert ask(exits.folder, "describe")["dead"] == []
    hosts = exits.run("nas", "cat", "/etc/hosts").splitlines()
    address = next(line.split()[0] for line in hosts if OUTSIDE_NAME in line)
    assert exits.run(OUTSIDE, "curl", "-s", f"http://{address}/").startswith(f"{OUTSIDE} saw ")


def test_distances_and_faults_are_a_command_away(exits: Twin) -> None:
    where = ["--lab", str(exits.folder.root)]
    done = cli("lab", "line", "japan/tokyo401", "--delay", "150ms", "--loss", "25", *where)
    assert done.stdout == "japan/tokyo401: 150 ms each way, up to 0 ms more, 25% lost\n"
    assert cli("lab", "line", "japan/tokyo401", "--delay", "7 parsecs", *where).returncode == 1
    assert "there is no line 'mars'" in cli("lab", "line", "mars", *where).stderr
    assert cli("lab", "fault", "tokyo401", "http-500", *where).stdout == "tokyo401: http-500\n"
    assert cli("lab", "fault", "tokyo401", "none", *where).returncode == 0
    assert "there is no fault 'fire'" in cli("lab", "fault", "tokyo401", "fire", *where).stderr
    assert "there is no 'mullvad-api'" in cli("lab", "fault", "mullvad-api", "http-500", *where).stderr
