"""Daemons that run with our configuration: the host in memory, and the real ones on a cable of their own."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from compiler.compile import compile_files
from compiler.inputs import read_folder
from reconciler.kinds.service import MARKER
from reconciler.system.service import ServiceDriver
from schema.plan import Address, Change, Service
from tests.contract.conftest import World, needs_root
from tests.lab.twin import eventually
from tests.namespaces import ip, private_network


def keepalived(priority: int = 200) -> Service:
    text = (
        "global_defs {\n    vrrp_version 3\n}\n"
        "vrrp_instance eth0-inet {\n    interface eth0\n    virtual_router_id 117\n"
        f"    priority {priority}\n    advert_int 0.1\n    virtual_ipaddress {{\n        192.0.2.254/32\n    }}\n}}\n"
    )
    return Service(name="keepalived", config=text)


def radvd(lifetime: int = 12) -> Service:
    route = f"    route fd00:20::/64 {{\n        AdvRouteLifetime {lifetime};\n    }};\n"
    text = f"interface eth0 {{\n    AdvSendAdvert on;\n    AdvDefaultLifetime 0;\n{route}}};\n"
    return Service(name="radvd", config=text)


def end(world: World, service: Service) -> None:
    """The daemon dies, and nobody has told the agent."""
    if world.fake is not None:
        world.fake.end_service(service.name)
        return
    pid = running(world, service)
    assert pid is not None
    handle = os.pidfd_open(pid)
    signal.pidfd_send_signal(handle, signal.SIGKILL)
    eventually(lambda: running(world, service) is None, what="the daemon ends")
    os.close(handle)


def running(world: World, service: Service) -> int | None:
    driver = world.drivers["service"]
    return driver._process(service.name) if isinstance(driver, ServiceDriver) else None


@pytest.fixture
def world(world: World) -> Iterator[World]:
    """Leaves no daemon behind."""
    yield world
    assert world.delete(keepalived(), radvd()) == []


@pytest.mark.parametrize("service", [keepalived(), radvd()], ids=lambda service: service.name)
def test_one_is_started_and_stopped(world: World, service: Service) -> None:
    assert world.observe("service") == []
    for _ in range(2):
        assert world.create(service) == []
        assert world.satisfied(service)
    assert world.delete(service) == []
    assert world.observe("service") == []
    assert world.delete(service) == []


@pytest.mark.parametrize(
    "before, after", [(keepalived(), keepalived(40)), (radvd(), radvd(0))], ids=["keepalived", "radvd"]
)
def test_a_new_configuration_is_told_to_the_one_that_runs(world: World, before: Service, after: Service) -> None:
    world.made(before)
    pid = running(world, before)
    assert world.apply(Change(before, after)) == []
    assert world.satisfied(after)
    assert running(world, after) == pid, "the same process"


@pytest.mark.parametrize("service", [keepalived(), radvd()], ids=lambda service: service.name)
def test_what_it_refuses_leaves_the_running_one_alone(world: World, service: Service) -> None:
    bad = service.model_copy(update={"config": service.config.replace("}", "", 1)})
    world.made(service)
    pid = running(world, service)
    [failure] = world.apply(Change(service, bad))
    assert failure.message.startswith(f"{service.name} refuses its configuration")
    assert world.satisfied(service)
    assert running(world, service) == pid


@pytest.mark.parametrize("service", [keepalived(), radvd()], ids=lambda service: service.name)
def test_one_that_died_is_drift_and_is_started_again(world: World, service: Service) -> None:
    world.made(service)
    end(world, service)
    [seen] = world.observe("service")
    assert seen.resource == service and seen.marker == MARKER and not seen.up
    assert not world.satisfied(service)
    assert world.apply(Change(service, service)) == []
    assert world.satisfied(service)


def test_one_that_died_can_be_deleted(world: World) -> None:
    world.made(radvd())
    end(world, radvd())
    assert world.delete(radvd()) == []
    assert world.observe("service") == []


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    needs_root()
    with private_network():
        yield tmp_path / "services"
        ServiceDriver(tmp_path / "services").apply([Change(keepalived(), None), Change(radvd(), None)])


@pytest.mark.root
def test_a_file_that_somebody_edits_is_told_again_as_it_should_be(folder: Path) -> None:
    driver = ServiceDriver(folder)
    assert driver.apply([Change(None, radvd())]) == []
    (folder / "radvd.conf").write_text("# mine now\n")
    assert [seen.resource.config for seen in driver.observe()] == [""]
    assert driver.apply([Change(radvd(), radvd())]) == []
    assert (folder / "radvd.conf").read_text() == radvd().config
    assert (folder / "radvd.conf").stat().st_mode & 0o777 == 0o600


@pytest.mark.root
def test_a_process_that_is_not_ours_is_left_alone(folder: Path) -> None:
    """A pid file that outlived a reboot names whoever has that number now."""
    driver = ServiceDriver(folder)
    assert driver.apply([Change(None, radvd())]) == []
    pid = int((folder / "radvd.pid").read_text())
    other = subprocess.Popen(["sleep", "infinity"])
    try:
        (folder / "radvd.pid").write_text(str(other.pid))
        assert [seen.up for seen in driver.observe()] == [False]
        assert driver.apply([Change(radvd(), None)]) == []
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()
        os.kill(pid, signal.SIGTERM)


@pytest.mark.root
def test_another_agent_on_this_machine_has_daemons_of_its_own(folder: Path) -> None:
    driver, other = ServiceDriver(folder), ServiceDriver(folder.parent / "other")
    assert driver.apply([Change(None, radvd())]) == [] and other.apply([Change(None, radvd(0))]) == []
    assert other.apply([Change(radvd(0), None)]) == []
    assert [(seen.resource, seen.up) for seen in driver.observe()] == [(radvd(), True)]


@pytest.mark.root
def test_a_program_that_is_not_installed_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    [failure] = ServiceDriver(folder).apply([Change(None, keepalived())])
    assert failure.message == "keepalived is not installed: apt install keepalived"
    assert ServiceDriver(folder).observe() == []


@pytest.mark.root
def test_the_virtual_address_comes_and_goes_with_it(folder: Path) -> None:
    ip("address add 192.0.2.1/24 dev eth0")

    def shown() -> bool:
        return "192.0.2.254" in subprocess.run(["ip", "-o", "a"], capture_output=True, text=True, check=True).stdout

    driver = ServiceDriver(folder)
    assert driver.apply([Change(None, keepalived())]) == []
    eventually(shown, what="the virtual address")
    assert driver.apply([Change(keepalived(), None)]) == []
    assert not shown()


@pytest.mark.root
def test_after_a_crash_of_the_agent_its_daemon_is_found_and_told_again(folder: Path) -> None:
    driver = ServiceDriver(folder)
    assert driver.apply([Change(None, keepalived())]) == []
    pid = driver._process("keepalived")
    (folder / "keepalived.told").unlink()
    later = ServiceDriver(folder)
    assert [(seen.resource.config, seen.up) for seen in later.observe()] == [("", True)]
    assert later.apply([Change(keepalived(), keepalived())]) == []
    assert later._process("keepalived") == pid


@pytest.mark.root
@pytest.mark.parametrize(
    "case, host",
    [("two-gateways", "a-gw1"), ("two-gateways", "a-gw2"), ("gateways-at-both-ends", "b-gw1")],
)
def test_they_take_what_the_compiler_writes(folder: Path, case: str, host: str) -> None:
    found = read_folder(Path(__file__).parents[1] / "golden" / "compile" / case / "input")
    plan = compile_files(found.files).plan(host)
    services = [resource for resource in plan.resources if isinstance(resource, Service)]
    assert services
    for dev in sorted({resource.dev for resource in plan.resources if isinstance(resource, Address)}):
        ip(f"link add {dev} type veth peer name far-{dev[-6:]}")
    driver = ServiceDriver(folder)
    assert driver.apply([Change(None, service) for service in services]) == []
    assert all(seen.up for seen in driver.observe())
    assert driver.apply([Change(service, None) for service in services]) == []
