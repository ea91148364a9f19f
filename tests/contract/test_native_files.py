"""`gitwan compile`'s native files, taken by the native tools, give what the agent would have made."""

from __future__ import annotations

import base64
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from compiler.compile import compile_files
from compiler.render import render
from compiler.shell.inputs import read_folder
from reconciler.converge.diff import Desired, diff
from reconciler.kinds import KINDS
from reconciler.state.inventory import Inventory
from reconciler.system import Context, drivers
from reconciler.system.wg_key import generate_private, public_key
from schema.plan import HostPlan, Link, Wireguard
from tests.namespaces import ip, private_network, run

SITES = Path(__file__).parents[2] / "sites"
GOLDEN = Path(__file__).parents[1] / "golden" / "compile"
CASES = [
    pytest.param(folder, host, id=f"{host} of {folder.parent.name if folder.name == 'input' else 'sites'}")
    for folder, host in (
        (SITES, "nas"),
        (SITES, "ams-gw1"),
        (SITES, "vpn-ireland"),
        (GOLDEN / "exits" / "input", "nas"),
        (GOLDEN / "exits-of-two-lans" / "input", "nas"),
    )
]
PRIVATE = generate_private()

pytestmark = pytest.mark.root


@pytest.fixture
def network() -> Iterator[None]:
    with private_network():
        for dev in ("eno4", "lan0", "lan1", "lan2", "ens5"):
            ip(f"link add {dev} type veth peer name {dev}-far")
            ip(f"link set {dev} up")
        yield


def feed(text: str, *command: str) -> None:
    done = subprocess.run(command, input=text, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


def plan_of(host: str, folder: Path = SITES) -> HostPlan:
    files = dict(read_folder(folder).files)
    files[f"keys/{host}.pub"] = public_key(PRIVATE).encode()
    return compile_files(files).plan(host)


@pytest.mark.parametrize(("folder", "host"), CASES)
def test_native_tools_and_the_agent_agree(folder: Path, host: str, network: None, tmp_path: Path) -> None:
    plan = plan_of(host, folder)
    files = render(plan)
    # This kernel may have no WireGuard: its devices are then there before the file is fed.
    for link in (resource for resource in plan.resources if isinstance(resource, Link)):
        subprocess.run(["wireguard-go", link.name], check=True, capture_output=True)
    lines = [line for line in files["1-ip.batch"].splitlines() if " type wireguard" not in line]
    feed("\n".join(lines) + "\n", "ip", "-batch", "-")
    feed(files["2-ip6.batch"], "ip", "-6", "-batch", "-")
    feed(files["3-ip.batch"], "ip", "-batch", "-")
    feed(files["iptables.rules"], "iptables-restore", "--noflush")
    feed(files["ip6tables.rules"], "ip6tables-restore", "--noflush")
    feed(files["sysctl.conf"], "sysctl", "-q", "-p", "-")
    for device in (resource for resource in plan.resources if isinstance(resource, Wireguard)):
        text = files[f"wireguard/{device.dev}.conf"].replace("<private-key>", base64.b64encode(PRIVATE).decode())
        feed(text, "wg", "setconf", device.dev, "/dev/stdin")
    inventory = Inventory(tmp_path / "inventory.json")
    kernel = drivers(Context(secret=lambda ref: PRIVATE, inventory=inventory, services=tmp_path / "services"))
    desired = Desired.of(plan.resources, KINDS)
    observed = {kind: driver.observe() for kind, driver in kernel.items()}
    found = diff(desired, observed, desired, KINDS)
    # What the tools cannot mark is somebody else's, and satisfies: iproute2 has no word for an address's owner.
    left = [change.describe() for change in found.changes if change.resource.kind != "sysctl"]
    assert left == [] and found.conflicts == []
    for change in found.changes:
        name = str(change.resource.key[0])
        assert run(f"cat /proc/sys/{name}").strip() == getattr(change.after, "value", None)


def test_no_private_key_stands_in_any_file() -> None:
    for text in render(plan_of("ams-gw1")).values():
        assert base64.b64encode(PRIVATE).decode() not in text
