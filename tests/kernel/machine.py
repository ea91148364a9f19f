"""A virtual machine on this machine's own root file system, with another kernel, for one command.

virtme-ng (`vng`) shows the guest this root file system read-only, and with it the project and its virtual environment;
results come back through one folder that the guest may write. KVM is tried where it is, with a short bound, because
it may be there and hang; software emulation is about fifteen times slower, and always works.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from tests.kernel.kernel import SAY, Kernel, MissingError, missing_tools

QEMU = {"x86_64": ("qemu-system-x86_64", "qemu-system-x86"), "aarch64": ("qemu-system-aarch64", "qemu-system-arm")}
BOUND = 30 * 60.0
"""Seconds that everything may take."""
KVM_BOUND = 25.0
"""Seconds in which a guest under KVM has to be up; it takes three."""
POWER_OFF = 5.0
"""Seconds that a machine may take to end by itself."""
GUEST_OUT = "/mnt"
HIDDEN = ("/tmp", "/var/tmp", "/run", "/dev", "/var/log", "/var/cache")
"""Folders of ours that the guest does not see: it mounts empty ones of its own over them."""
MODULES = ("wireguard", "bonding", "bridge", "veth")


class BootError(Exception):
    """The machine did not come up, or did not end; the text holds its last words."""


@dataclass(frozen=True, slots=True)
class Inner:
    """A test that ran inside."""

    name: str
    outcome: str
    """`passed`, `failed`, `error` or `skipped`."""
    message: str = ""


@dataclass(frozen=True, slots=True)
class Command:
    """What runs inside."""

    line: str
    """For a shell, at the project's root; what it says goes to the log."""
    shown: tuple[str, ...]
    """With what the lines of the log begin that are passed on."""
    bound: float = BOUND
    """Seconds for everything."""
    modules: tuple[str, ...] = MODULES


def heed_sigterm() -> None:
    """Have this process end its guest where it is told to end: SIGINT may be ignored, as in a background job."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))


def run_tests(root: Path, kernel: Kernel, words: list[str], out: Path, say: SAY) -> list[Inner]:
    """Boot the kernel and run pytest with these words. Raises MissingError and BootError."""
    options = ["no:cacheprovider", "no:hypothesispytest", "no:xdist"]
    pytest = [sys.executable, "-m", "pytest", *(word for option in options for word in ("-p", option))]
    pytest += ["-v", "--color=no", "--tb=short", f"--junitxml={GUEST_OUT}/junit.xml", *words]
    run(root, kernel, Command(shlex.join(pytest), ("tests/", "=")), out, say)
    return outcomes(out)


def run(root: Path, kernel: Kernel, command: Command, out: Path, say: SAY) -> None:
    """Boot the kernel and run a command; it finds the folder `out` at `GUEST_OUT`. Raises MissingError, BootError."""
    tools = dict([QEMU[os.uname().machine]])
    lacking = missing_tools(tools) + ([] if _vng().exists() else ["virtme-ng (the project's `dev` packages)"])
    if lacking:
        raise MissingError(f"install {', '.join(lacking)}")
    deadline = time.monotonic() + command.bound
    hangs = out.with_name("kvm-hangs")
    for kvm in (True, False) if _has_kvm(hangs) else (False,):
        say(f"booting {kernel.version} {'with KVM' if kvm else 'under software emulation'}")
        _prepare(root, command, out)
        if _boot(root, kernel, out, kvm, deadline, command, say):
            return
        if kvm:
            say(f"no guest within {KVM_BOUND:.0f} s: KVM is not tried again until this machine boots")
            hangs.write_text(_boot_id())
    raise BootError(f"the guest did not come up:\n{_tail(out)}")


def _has_kvm(hangs: Path) -> bool:
    """Whether to try it: it can be used, and was not found to hang since this machine booted."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return False
    return not hangs.exists() or hangs.read_text() != _boot_id()


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text()


def _vng() -> Path:
    return Path(sys.executable).parent / "vng"


def _prepare(root: Path, command: Command, out: Path) -> None:
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    tools = Path(sys.executable).parent
    script = f"""\
#!/bin/sh
echo up >{GUEST_OUT}/up
export PATH={tools}:/usr/sbin:/usr/bin:/sbin:/bin HOME=/tmp CI={os.environ.get("CI", "")} GITWAN_KERNEL=1
export PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 HYPOTHESIS_STORAGE_DIRECTORY=/tmp/hypothesis
cd {shlex.quote(str(root))}
modprobe -a {" ".join(command.modules)}
ip link set lo up
{command.line} >{GUEST_OUT}/log 2>&1
echo $? >{GUEST_OUT}/exit
"""
    (out / "inside.sh").write_text(script)


def _boot(root: Path, kernel: Kernel, out: Path, kvm: bool, deadline: float, command: Command, say: SAY) -> bool:
    """Run the guest to its end; False where it was not up in time under KVM."""
    words = [str(_vng()), "-v", "--force-9p", "--memory", "2G", "--cpus", "2", f"--rwdir={GUEST_OUT}={out}"]
    words += [] if kvm else ["--disable-kvm"]
    if str(root).startswith(tuple(f"{folder}/" for folder in HIDDEN)):
        words += [f"--rodir={root}"]
    words += ["--run", str(kernel.image), "--exec", f"sh {GUEST_OUT}/inside.sh"]
    environment = os.environ | {
        "TMPDIR": str(out),
        "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}:/usr/sbin:/sbin",
    }
    with (out / "console").open("wb") as console:
        guest = subprocess.Popen(
            words, cwd=out, env=environment, stdin=subprocess.DEVNULL, stdout=console, stderr=console,
            start_new_session=True,
        )  # fmt: skip
    try:
        return _follow(guest, out, time.monotonic() + KVM_BOUND if kvm else deadline, deadline, command, say)
    finally:
        _end(guest)


def _follow(
    guest: subprocess.Popen[bytes], out: Path, up_by: float, deadline: float, command: Command, say: SAY
) -> bool:
    """Say what is said inside, until the guest ends; False where it was not up in time."""
    lines = _lines(out / "log", command.shown)
    started = told = time.monotonic()
    while True:
        ended = guest.poll() is not None
        for line in lines:
            if line is None:
                break
            told = time.monotonic()
            say(f"  {line}")
        now = time.monotonic()
        if ended or (out / "exit").exists():
            return (out / "up").exists()
        if now > up_by and not (out / "up").exists():
            return False
        if now > deadline:
            raise BootError(f"not done within {command.bound / 60:.0f} minutes:\n{_tail(out)}")
        if now - told > 10:
            told = now
            say(f"  … {'at work' if (out / 'up').exists() else 'booting'}, {now - started:.0f} s")
        with suppress(subprocess.TimeoutExpired):
            guest.wait(0.2)  # what it writes is in a shared folder, and announced to nobody


def _lines(path: Path, shown: tuple[str, ...]) -> Iterator[str | None]:
    """A growing file's lines of interest as they come, and None whenever there is no new one yet."""
    position, rest = 0, ""
    while True:
        if path.exists():
            with path.open(errors="replace") as file:
                file.seek(position)
                rest += file.read()
                position = file.tell()
        *complete, rest = rest.split("\n")
        yield from (line for line in complete if line.startswith(shown))
        yield None


def _end(guest: subprocess.Popen[bytes]) -> None:
    """End the machine and whatever belongs to it."""
    try:
        if guest.poll() is None:
            guest.wait(POWER_OFF)
    except subprocess.TimeoutExpired:
        pass
    try:
        os.killpg(guest.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    guest.wait()


def outcomes(out: Path) -> list[Inner]:
    """Of the last run; raises BootError where it left none."""
    report = out / "junit.xml"
    if not report.exists():
        raise BootError(f"the guest left no results:\n{_tail(out)}")
    found = []
    for case in ElementTree.parse(report).iter("testcase"):
        name = f"{case.get('classname', '').replace('.', '/')}::{case.get('name', '')}"
        bad = next((child for child in case if child.tag in ("failure", "error", "skipped")), None)
        if bad is None:
            found.append(Inner(name, "passed"))
        else:
            outcome = "failed" if bad.tag == "failure" else bad.tag
            found.append(Inner(name, outcome, f"{bad.get('message', '')}\n{bad.text or ''}".strip()))
    return found


def _tail(out: Path) -> str:
    """The last words of the tests, or else of the guest's console."""
    for name in ("log", "console"):
        path = out / name
        if path.exists() and path.stat().st_size:
            return "\n".join(path.read_text(errors="replace").splitlines()[-25:])
    return "(nothing was said)"
