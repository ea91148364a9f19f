"""Starts and ends wireguard-go, for kernels without WireGuard."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
from contextlib import nullcontext

from reconciler.system.aside import Aside
from reconciler.system.wg_uapi import UapiBackend

_SECONDS = 10.0


def start(name: str, uapi: UapiBackend, aside: Aside = nullcontext) -> None:
    """Start wireguard-go for a new device, in its own session, and wait until it answers. Raises OSError.

    An interrupt at the agent's terminal goes to the whole session, but tunnels must outlive the agent.

    wireguard-go opens the TUN device and its socket before it goes into the background. So when the command has ended,
    the socket accepts connections, and the first response shows that the process is running.
    """
    environment = {"PATH": os.environ.get("PATH", os.defpath), "LOG_LEVEL": "silent"}
    try:
        with aside():
            done = subprocess.run(
                ["wireguard-go", name],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                env=environment,
                start_new_session=True,
                timeout=_SECONDS,
                check=False,
            )
    except FileNotFoundError:
        raise OSError(errno.EOPNOTSUPP, "the kernel has no WireGuard, and wireguard-go is not installed") from None
    except subprocess.TimeoutExpired:
        raise OSError(errno.ETIMEDOUT, f"wireguard-go for {name} did not start") from None
    if done.returncode:
        words = done.stderr.decode(errors="replace").strip().splitlines()
        raise OSError(errno.EIO, f"wireguard-go for {name}: {words[-1] if words else 'failed'}")
    try:
        with aside():
            uapi.read(name)
    except ConnectionError:
        # It watches its socket by inotify, whose instances are limited per user: 128 by default.
        text = f"wireguard-go for {name} ended at once; where there are many, raise fs.inotify.max_user_instances"
        raise OSError(errno.EMFILE, text) from None


def await_end(connection: socket.socket, aside: Aside = nullcontext) -> None:
    """Wait until the process at the other end of a connection has ended, which it does when its device is gone.

    It removes its socket file last: a successor that starts before that would lose its own file.
    """
    connection.settimeout(_SECONDS)
    with connection, aside():
        try:
            while connection.recv(4096):
                pass
        except ConnectionError:
            pass
