"""Daemons that run with our configuration: the host in memory, and the real ones on a cable of their own."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from compiler.compile import compile_files
from compiler.shell.inputs import read_folder
from reconciler.kinds.service import MARKER
from reconciler.system import dns
from reconciler.system.ends import Ends
from reconciler.system.programs import PROGRAMS
from reconciler.system.service import ServiceDriver
from schema.plan import Address, Change, Service, ServiceFile
from schema.plan.ranges import AGENT
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


HOSTS = "192.0.2.7 seven.example\n"


def dnsmasq(extra: str = "", hosts: str = HOSTS) -> Service:
    text = (
        "user=root\nno-resolv\nno-hosts\nbind-interfaces\nlisten-address=127.0.0.1\n"
        f"addn-hosts=@folder@/hosts\nconf-file=@folder@/more.conf\n{extra}"
    )
    files = (ServiceFile(name="hosts", text=hosts), ServiceFile(name="more.conf", text="# @folder@\ncache-size=10\n"))
    return Service(name="dnsmasq", config=text, files=files)


ALL = [pytest.param(service, id=service.name) for service in (keepalived(), radvd(), dnsmasq())]


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
    assert world.delete(keepalived(), radvd(), dnsmasq()) == []


@pytest.mark.parametrize("service", ALL)
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


@pytest.mark.parametrize("service", ALL)
def test_what_it_refuses_leaves_the_running_one_alone(world: World, service: Service) -> None:
    bad = service.model_copy(update={"config": service.config.replace("}", "", 1) + "nonsense {\n"})
    world.made(service)
    pid = running(world, service)
    [failure] = world.apply(Change(service, bad))
    assert failure.message.startswith(f"{service.name} refuses its configuration")
    assert world.satisfied(service)
    assert running(world, service) == pid


@pytest.mark.parametrize("service", ALL)
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
        gone = [Change(service, None) for service in (keepalived(), radvd(), dnsmasq())]
        assert ServiceDriver(tmp_path / "services").apply(gone) == []


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


# What a service may have of the agent, and what it may not


def processes(pid: int) -> list[int]:
    """A daemon's processes: those of its session."""
    stats = {int(path.parent.name): path for path in Path("/proc").glob("[0-9]*/stat")}
    return [one for one, stat in stats.items() if session(stat) == session(Path(f"/proc/{pid}/stat"))]


def session(stat: Path) -> int:
    try:
        return int(stat.read_text().rpartition(")")[2].split()[3])
    except (FileNotFoundError, ProcessLookupError):
        return 0


def started(driver: ServiceDriver, service: Service) -> int:
    assert driver.apply([Change(None, service)]) == []
    pid = driver._process(service.name)
    assert pid is not None
    return pid


@pytest.mark.root
@pytest.mark.parametrize("service", ALL)
def test_none_of_its_processes_is_in_the_agents_group_or_session(folder: Path, service: Service) -> None:
    groups = os.getgroups()
    os.setgroups([*groups, 4711, AGENT])
    try:
        pid = started(ServiceDriver(folder), service)
    finally:
        os.setgroups(groups)
    found = processes(pid)
    assert os.getpid() not in found and pid in found
    for one in found:
        (line,) = (line for line in Path(f"/proc/{one}/status").read_text().splitlines() if line.startswith("Groups:"))
        assert str(AGENT) not in line.split()
        assert service.name == "dnsmasq" or "4711" in line.split(), "it keeps the others, unless it wants none"


@pytest.mark.root
@pytest.mark.parametrize("service", ALL)
def test_it_has_limits(folder: Path, service: Service) -> None:
    limits = PROGRAMS[service.name].limits
    lines = Path(f"/proc/{started(ServiceDriver(folder), service)}/limits").read_text().splitlines()
    found = {line[:26].strip(): line[26:].split()[:2] for line in lines}
    assert found["Max core file size"] == ["0", "0"]
    assert found["Max data size"] == [str(limits.data)] * 2
    # Keepalived raises the first of the two for itself, within the second.
    assert found["Max open files"][1] == str(limits.files)


@pytest.mark.root
@pytest.mark.parametrize("service", ALL)
def test_its_end_is_an_event_and_the_next_look_starts_it_again(folder: Path, service: Service) -> None:
    ends = Ends(settled=0)
    driver = ServiceDriver(folder, ends=ends)
    pid = started(driver, service)
    later = ServiceDriver(folder, ends=ends)  # an agent that is started anew finds it
    assert [seen.up for seen in later.observe()] == [True]
    (descriptor,) = ends.filenos()
    assert (ends.read()[0], select.select([descriptor], [], [], 0)[0]) == (set(), [])
    for one in processes(pid):
        os.kill(one, signal.SIGKILL)
    assert select.select([descriptor], [], [], 10)[0]
    assert ends.read()[0] == {"service"}
    assert (ends.read()[0], [seen.up for seen in later.observe()]) == (set(), [False])
    assert later.apply([Change(service, service)]) == []
    assert later._process(service.name) not in (None, pid)
    assert later.apply([Change(service, None)]) == []
    assert ends.read()[0] == set(), "it was meant to end"
    ends.close()


@pytest.mark.root
def test_an_end_right_after_a_start_is_left_to_the_next_look(folder: Path) -> None:
    ends = Ends()
    pid = started(ServiceDriver(folder, ends=ends), dnsmasq())
    os.kill(pid, signal.SIGKILL)
    assert select.select(ends.filenos(), [], [], 10)[0]
    assert ends.read()[0] == set()
    ends.close()


# One in the foreground, with several files


@pytest.mark.root
def test_it_answers_as_soon_as_it_is_started_and_from_its_files(folder: Path) -> None:
    driver = ServiceDriver(folder)
    before = started(driver, dnsmasq())
    assert session(Path(f"/proc/{before}/stat")) == before
    assert dns.ask("127.0.0.1", "seven.example", "inet", "lo", 5.0) == "192.0.2.7"
    after = dnsmasq("log-queries\n", "192.0.2.8 seven.example\n")
    assert driver.apply([Change(dnsmasq(), after)]) == []
    assert driver._process("dnsmasq") not in (None, before), "it reads its configuration only when it starts"
    assert dns.ask("127.0.0.1", "seven.example", "inet", "lo", 5.0) == "192.0.2.8"
    eventually(lambda: "query[A] seven.example" in (folder / "dnsmasq.log").read_text(), what="its log")
    assert [(seen.resource, seen.up) for seen in driver.observe()] == [(after, True)]


@pytest.mark.root
def test_a_file_that_is_no_longer_wanted_goes_and_what_the_daemon_keeps_there_stays(folder: Path) -> None:
    driver = ServiceDriver(folder)
    started(driver, dnsmasq())
    (folder / "dnsmasq.d" / "leases").write_text("its own\n")
    config = dnsmasq().config.replace("conf-file=@folder@/more.conf\n", "")
    less = Service(name="dnsmasq", config=config, files=(ServiceFile(name="hosts", text=HOSTS),))
    assert driver.apply([Change(dnsmasq(), less)]) == []
    assert [seen.resource for seen in driver.observe()] == [less]
    assert {path.name for path in (folder / "dnsmasq.d").iterdir()} == {"hosts", "leases"}
    assert driver.apply([Change(less, None)]) == []
    assert list(folder.iterdir()) == []


@pytest.mark.root
@pytest.mark.parametrize("spoil", [Path.unlink, lambda path: path.write_text("192.0.2.66 seven.example\n")])
def test_a_file_that_somebody_spoils_is_drift(folder: Path, spoil: Callable[[Path], object]) -> None:
    driver = ServiceDriver(folder)
    started(driver, dnsmasq())
    spoil(folder / "dnsmasq.d" / "hosts")
    [seen] = driver.observe()
    assert seen.resource != dnsmasq()
    assert driver.apply([Change(seen.resource, dnsmasq())]) == []
    assert [seen.resource for seen in driver.observe()] == [dnsmasq()]


@pytest.mark.root
def test_a_file_that_it_refuses_leaves_the_running_one_alone(folder: Path) -> None:
    driver = ServiceDriver(folder)
    pid = started(driver, dnsmasq())
    good = dnsmasq().files
    assert good is not None
    bad = dnsmasq().model_copy(update={"files": (good[0], ServiceFile(name="more.conf", text="nonsense\n"))})
    [failure] = driver.apply([Change(dnsmasq(), bad)])
    assert failure.message.startswith("dnsmasq refuses its configuration") and "more.conf" in failure.message
    assert [(seen.resource, seen.up) for seen in driver.observe()] == [(dnsmasq(), True)]
    assert driver._process("dnsmasq") == pid


@pytest.mark.root
def test_what_it_says_when_it_cannot_start_is_passed_on(folder: Path) -> None:
    driver = ServiceDriver(folder)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 53))
        [failure] = driver.apply([Change(None, dnsmasq())])
    assert "ended as soon as it was started" in failure.message and "already in use" in failure.message
    assert [seen.up for seen in driver.observe()] == [False]
    assert driver.apply([Change(None, dnsmasq())]) == []


@pytest.mark.root
def test_after_a_crash_of_the_agent_one_in_the_foreground_is_found_again(folder: Path) -> None:
    pid = started(ServiceDriver(folder), dnsmasq())
    later = ServiceDriver(folder)
    assert [(seen.resource, seen.up) for seen in later.observe()] == [(dnsmasq(), True)]
    assert later.apply([Change(None, dnsmasq())]) == []
    assert later._process("dnsmasq") == pid


@pytest.mark.root
def test_whoever_waits_for_a_process_steps_aside(folder: Path) -> None:
    entered = []

    @contextmanager
    def aside() -> Iterator[None]:
        entered.append("in")
        yield
        entered.append("out")

    driver = ServiceDriver(folder, aside)
    for change in (Change(None, dnsmasq()), Change(dnsmasq(), dnsmasq("no-poll\n")), Change(dnsmasq(), None)):
        entered.clear()
        assert driver.apply([change]) == []
        assert entered and entered == ["in", "out"] * (len(entered) // 2)


@pytest.mark.root
@pytest.mark.parametrize("service", ALL)
def test_the_units_capabilities_are_enough(folder: Path, service: Service) -> None:
    unit = (Path(__file__).parents[2] / "deploy" / "gitwan-agent.service").read_text()
    (line,) = (line for line in unit.splitlines() if line.startswith("CapabilityBoundingSet="))
    names = [f"+{word.removeprefix('CAP_').lower()}" for word in line.partition("=")[2].split()]
    command = ["setpriv", "--no-new-privs", f"--groups={AGENT}", f"--bounding-set=-all,{','.join(names)}"]
    text = (
        "import sys; from pathlib import Path; from schema.plan import Change, Service;"
        "from reconciler.system.service import ServiceDriver;"
        "service = Service.model_validate_json(sys.stdin.read());"
        "print(ServiceDriver(Path(sys.argv[1])).apply([Change(None, service)]))"
    )
    given = service.model_dump_json(exclude_none=True)
    done = subprocess.run(
        [*command, sys.executable, "-c", text, str(folder)], input=given, capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")
    assert [(seen.resource, seen.up) for seen in ServiceDriver(folder).observe()] == [(service, True)]
