"""A private network and mount namespace for a test, in the test's own process, so that failures stay readable.

Start pytest itself under `unshare -p --fork --kill-child --mount-proc` where it may be killed: wireguard-go outlives
its parent otherwise.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_CLONE_FS, _CLONE_NEWNS, _CLONE_NEWNET = 0x00000200, 0x00020000, 0x40000000
_MS_REC, _MS_PRIVATE = 0x4000, 0x40000
_LIBC = ctypes.CDLL(None, use_errno=True)
RUN = Path("/run/wireguard")


def _check(result: int) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


@contextmanager
def private_network() -> Iterator[None]:
    """Enter fresh namespaces with an empty /run, and leave them again, ending what wireguard-go was started there.

    Loopback is up, and eth0 and eth1 are the two ends of a cable.
    """
    folder = Path.cwd()
    before = [os.open(f"/proc/self/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC) for kind in ("net", "mnt")]
    try:
        _check(_LIBC.unshare(_CLONE_NEWNET | _CLONE_NEWNS))
        try:
            _check(_LIBC.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None))
            _check(_LIBC.mount(b"gitwan-test", b"/run", b"tmpfs", 0, None))
            # Whether an IPv6 address is somebody else's takes seconds to ask; events and routes would wait for that.
            for scope in ("all", "default"):
                Path(f"/proc/sys/net/ipv6/conf/{scope}/accept_dad").write_text("0")
            for words in ("set lo up", "add eth0 type veth peer name eth1", "set eth0 up", "set eth1 up"):
                ip(f"link {words}")
            yield
        finally:
            _end_wireguard()
            # A thread that shares its root with another, even with one that is just ending, enters no mount namespace.
            _check(_LIBC.unshare(_CLONE_FS))
            for descriptor in before:
                _check(_LIBC.setns(descriptor, 0))
    finally:
        for descriptor in before:
            os.close(descriptor)
        os.chdir(folder)


def _end_wireguard() -> None:
    for path in RUN.glob("*.sock"):
        subprocess.run(["ip", "link", "del", path.stem], check=False, capture_output=True)


def run(command: str) -> str:
    """What a command prints; an error, with its words, where it fails."""
    done = subprocess.run(command.split(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


def ip(words: str) -> str:
    return run(f"ip {words}")
