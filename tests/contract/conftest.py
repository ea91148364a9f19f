"""The same tests against the host in memory and against the kernel, each in a world of its own."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from reconciler.kinds import KINDS
from reconciler.kinds.base import Driver, Failure, Observed
from reconciler.state.inventory import Inventory
from reconciler.system import Context, drivers
from schema.plan import Change, Resource, SecretRef
from tests.fakes import FakeHost
from tests.namespaces import ip, private_network

PRIVATE = bytes(range(31)) + b"\x40"
PRESHARED = bytes(range(32))
SECRETS = {"wan-key": PRIVATE, "psk": PRESHARED}

WIREGUARD_WORLDS = [
    "fake",
    pytest.param("real", marks=pytest.mark.root),
    pytest.param("kernel_wireguard", marks=[pytest.mark.root, pytest.mark.kernel]),
]


@dataclass
class World:
    """A host, its drivers, and a way to do things to it behind their backs."""

    drivers: dict[str, Driver[Any]]
    fake: FakeHost | None = None
    names: dict[str, str] = field(default_factory=dict)
    """What DNS says."""

    def observe(self, kind: str) -> list[Observed[Any]]:
        return list(self.drivers[kind].observe())

    def ours(self, kind: str) -> set[Resource]:
        return {one.resource for one in self.observe(kind) if KINDS[kind].owns(one)}

    def foreign(self, kind: str) -> set[Resource]:
        return {one.resource for one in self.observe(kind) if not KINDS[kind].owns(one)}

    def apply(self, *changes: Change) -> list[Failure]:
        """Changes of one kind."""
        return list(self.drivers[changes[0].resource.kind].apply(changes))

    def create(self, *resources: Resource) -> list[Failure]:
        return self.apply(*(Change(None, resource) for resource in resources))

    def delete(self, *resources: Resource) -> list[Failure]:
        return self.apply(*(Change(resource, None) for resource in resources))

    def made(self, *resources: Resource) -> None:
        """Create resources of any kinds, each of which must succeed."""
        for resource in resources:
            assert self.create(resource) == []

    def satisfied(self, *resources: Resource) -> bool:
        """Whether each is there, ours, and as wanted."""
        for wanted in resources:
            kind = KINDS[wanted.kind]
            found = [one for one in self.observe(wanted.kind) if one.resource.key == wanted.key and kind.owns(one)]
            if not any(kind.satisfies(one, wanted, wanted) for one in found):
                return False
        return True

    def add_foreign(self, resource: Resource, words: str) -> None:
        """Put somebody else's object there: `words` are what `ip` would be told."""
        if self.fake is not None:
            self.fake.add(resource)
        else:
            ip(words)

    def remove(self, resource: Resource, words: str) -> None:
        if self.fake is not None:
            self.fake.remove(resource)
        else:
            ip(words)


def secret(reference: SecretRef) -> bytes:
    return SECRETS[reference.secret]


def needs_root() -> None:
    """Skip where there is no root, saying so; in CI that is a failure."""
    if os.geteuid() == 0:
        return
    if os.environ.get("CI"):
        pytest.fail("this test makes network namespaces and has to run as root: `sudo -E make test`")
    pytest.skip("needs root (network namespaces)")


def needs_links(type_: str, module: str) -> None:
    """Skip where the kernel has no links of a type; in the virtual machine (GITWAN_KERNEL set) that is a failure."""
    done = subprocess.run(["ip", "link", "add", "probe", "type", type_], capture_output=True, check=False)
    if done.returncode == 0:
        ip("link del probe")
    elif os.environ.get("GITWAN_KERNEL"):
        pytest.fail(f"this kernel has no {type_} links: modprobe {module}")
    else:
        pytest.skip(f"this kernel has no {type_} links: runs in the kernel lane's virtual machine")


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.root)])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    if request.param == "fake":
        host = FakeHost()
        yield World(dict(host.drivers()), host)
        return
    needs_root()
    with private_network():
        if request.param == "kernel_wireguard":
            needs_links("wireguard", "wireguard")
        names: dict[str, str] = {}

        def resolve(name: str) -> str:
            if name not in names:
                raise OSError(f"no such name: {name}")
            return names[name]

        inventory, services = Inventory(tmp_path / "inventory.json"), tmp_path / "services"
        context = Context(secret=secret, inventory=inventory, services=services, resolve=resolve)
        yield World(drivers(context), None, names)
