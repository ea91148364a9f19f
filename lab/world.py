"""Creates the namespaces, wires and processes of a blueprint. Runs in the lab's own namespaces, so nothing outlives
it."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from lab.blueprint import GIT_ADDRESS, GIT_ADDRESS6, Blueprint, Namespace
from lab.folder import LabFolder
from lab.netns import NETNS
from lab.provider.make import Files

SSHD = """\
ListenAddress {address}
ListenAddress {address6}
HostKey {key}
AuthorizedKeysFile {authorized}
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
StrictModes no
UsePAM no
MaxStartups 100
PidFile none
"""
SSHD_USER = "sshd:x:65534:65534::/run/sshd:/usr/sbin/nologin\n"
"""The unprivileged process of sshd runs as this user."""
GIT_USER = "root:x:0:0::{home}:{shell}\n"
"""The git server's /etc/passwd. It has no login shell of this machine, so no start-up file of the user is read."""


def run(*command: str, stdin: str = "") -> None:
    """Run a command that must succeed. Raises RuntimeError with the end of its output."""
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {(done.stderr or done.stdout).strip()[-300:]}")


def prepare() -> None:
    """Mount an empty /run. `ip netns` and wireguard-go keep their files there."""
    run("mount", "-t", "tmpfs", "tmpfs", "/run")
    for folder in ("/run/netns", "/run/wireguard", "/run/sshd", "/run/lock"):
        Path(folder).mkdir(parents=True)


_holders: dict[str, subprocess.Popen[str]] = {}
"""Host or client -> the process that holds its mount namespace."""


def inside(space: str, *command: str) -> list[str]:
    """The command line to run a command in a namespace. Hosts and clients have their own /run/wireguard."""
    mount = [f"--mount=/proc/{_holders[space].pid}/ns/mnt"] if space in _holders else []
    return ["nsenter", f"--net={NETNS / space}", *mount, f"--wd={Path.cwd()}", "--", *command]


def build(plan: Blueprint, folder: LabFolder) -> None:
    """Create every namespace, wire, address and NAT rule of the blueprint."""
    run("ip", "-batch", "-", stdin="".join(f"netns add {name}\n" for name in plan.spaces))
    wires = [f"link add {w.a[1]} netns {w.a[0]} type veth peer name {w.b[1]} netns {w.b[0]}\n" for w in plan.wires]
    run("ip", "-batch", "-", stdin="".join(wires))
    for space in plan.spaces.values():
        _build(space, folder, plan)


def _build(space: Namespace, folder: LabFolder, plan: Blueprint) -> None:
    run("ip", "-n", space.name, "-batch", "-", stdin="".join(f"{line}\n" for line in space.ip))
    if space.role in ("router", "provider"):
        settings = ("net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
        run("ip", "netns", "exec", space.name, "sysctl", "-q", "-w", *settings)
    for program, nat in (("iptables-restore", space.nat), ("ip6tables-restore", space.nat6)):
        if nat:
            rules = "".join(f"{line}\n" for line in ("*nat", *nat, "COMMIT"))
            run("ip", "netns", "exec", space.name, program, stdin=rules)
    if space.role in ("host", "client"):
        _own_mounts(space.name, folder, plan)


def _own_mounts(name: str, folder: LabFolder, plan: Blueprint) -> None:
    """Create a mount namespace with its own WireGuard sockets, and with DNS names that resolve to the lab's
    addresses."""
    mounts = "mount -t tmpfs tmpfs /run/wireguard"
    if plan.names:
        hosts = folder.host(name) / "hosts"
        named = [*sorted(plan.names.items()), *sorted(plan.names6.items())]
        lines = "".join(f"{address} {dns}\n" for dns, address in named)
        hosts.write_text(f"127.0.0.1 localhost\n{lines}")
        mounts += f" && mount --bind '{hosts}' /etc/hosts"
    _hold(name, mounts)


def _hold(name: str, mounts: str) -> None:
    """Start a process that holds a mount namespace, after a shell has done the mounts in it. Raises RuntimeError."""
    # Its output shows that the mounts are done. From then on it only holds them.
    script = f"{mounts} && echo ready && exec sleep infinity"
    command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script]
    holder = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    if holder.stdout.readline() != "ready\n":
        raise RuntimeError(f"{name}: no mount namespace")
    _holders[name] = holder


def spawn(space: str, log: Path, command: Sequence[str]) -> subprocess.Popen[bytes]:
    """Start a process of the lab in a namespace. Its output goes to `log`."""
    with log.open("ab") as output:
        return subprocess.Popen(inside(space, *command), stdin=subprocess.DEVNULL, stdout=output, stderr=output)


def start_git(folder: LabFolder) -> subprocess.Popen[bytes]:
    """Start a real sshd that serves only the repository."""
    passwd = folder.git / "passwd"
    passwd.write_text(GIT_USER.format(home=folder.git, shell=shutil.which("git-shell")) + SSHD_USER)
    _hold("git", f"mount --bind '{passwd}' /etc/passwd")
    config = folder.git / "sshd_config"
    config.write_text(
        SSHD.format(
            address=GIT_ADDRESS,
            address6=GIT_ADDRESS6,
            key=folder.git / "host_key",
            authorized=folder.git / "authorized_keys",
        )
    )
    return spawn("git", folder.git / "sshd.log", ["/usr/sbin/sshd", "-D", "-e", "-f", str(config)])


def wait_for_git(tries: int = 100) -> None:
    """Wait until the git server accepts connections. Raises RuntimeError."""
    # ssh-keyscan ends as soon as the server has sent its greeting. A refused connection ends it at once.
    greeted = f"ssh-keyscan -T 2 {GIT_ADDRESS} 2>/dev/null | grep -q ."
    script = f"for i in $(seq {tries}); do {greeted} && exit 0; sleep 0.1; done; exit 1"
    run(*inside("git", "sh", "-c", script))


def start_agent(folder: LabFolder, host: str) -> subprocess.Popen[bytes]:
    """Start the real agent of a host."""
    command = [sys.executable, "-m", "gitwan", "agent", "run", "--config", str(folder.host(host) / "agent.yaml")]
    if (authority := Files(folder.provider).authority).exists():
        # The CA that the agent trusts for web sites: here the names of providers lead to the simulated ones.
        command = ["env", f"SSL_CERT_FILE={authority}", *command]
    return spawn(host, folder.host(host) / "agent.log", command)


def start_relay(plan: Blueprint, folder: LabFolder) -> subprocess.Popen[bytes]:
    """Start the relay for lines with a distance."""
    lines = [{"name": name, "line": asdict(line), "ends": ends} for name, (line, *ends) in sorted(plan.lines.items())]
    settings = folder.root / "relay.json"
    settings.write_text(json.dumps({"socket": str(folder.relay_socket), "lines": lines}))
    return _spawn_here(folder.logs / "relay.log", "lab.relay", str(settings))


def start_providers(plan: Blueprint, folder: LabFolder, kinds: Collection[str]) -> subprocess.Popen[bytes]:
    """Start the simulated providers. Their files must exist."""
    settings = folder.root / "provider.json"
    values = {"files": str(folder.provider), "kinds": sorted(kinds), "names": plan.names, "names6": plan.names6}
    settings.write_text(json.dumps({**values, "socket": str(folder.provider_socket)}))
    return _spawn_here(folder.logs / "provider.log", "lab.provider.server", str(settings))


def _spawn_here(log: Path, module: str, argument: str) -> subprocess.Popen[bytes]:
    """Start a process that enters namespaces by itself."""
    with log.open("ab") as output:
        command = [sys.executable, "-m", module, argument]
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)


def wait_for_socket(path: Path, process: subprocess.Popen[bytes], seconds: float = 30.0) -> None:
    """Wait until a process listens. Raises RuntimeError if it ends before, or after `seconds`."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with socket.socket(socket.AF_UNIX) as connection, suppress(OSError):
            connection.connect(str(path))
            return
        if process.poll() is not None:
            break
        time.sleep(0.02)  # there is no event to wait for before the socket exists
    raise RuntimeError(f"nothing listens at {path}: see the logs")


def start_workload(folder: LabFolder, space: str) -> subprocess.Popen[bytes]:
    """Start a machine on a network. It answers HTTP with its name and the client's address."""
    return spawn(space, folder.logs / f"{space}.log", [sys.executable, "-m", "lab.workload", space])


def start_client(folder: LabFolder, name: str) -> None:
    """Start a roaming client: a WireGuard device with the configuration that `gitwan client` prints."""
    run(*inside(name, "sh", "-c", "ip link add wg0 type wireguard 2>/dev/null || wireguard-go wg0 2>/dev/null"))
    configure_client(folder, name)


def configure_client(folder: LabFolder, name: str) -> None:
    """Load the client's current configuration from the lab's folder."""
    text = (folder.host(name) / "client.conf").read_text()
    fields = dict(line.split(" = ", 1) for line in text.splitlines() if " = " in line)
    private = (folder.host(name) / "keys" / "private.key").read_text().strip()
    kept = [line for line in text.splitlines() if not line.startswith(("Address", "MTU", "PrivateKey"))]
    wg = "\n".join(kept).replace("[Interface]", f"[Interface]\nPrivateKey = {private}", 1)
    run(*inside(name, "wg", "syncconf", "wg0", "/dev/stdin"), stdin=wg + "\n")
    lines = [f"address replace {address} dev wg0" for address in fields["Address"].split(", ")]
    lines.append(f"link set wg0 mtu {fields['MTU']} up")
    lines += [f"route replace {prefix} dev wg0" for prefix in fields["AllowedIPs"].split(", ")]
    run("ip", "-n", name, "-batch", "-", stdin="".join(f"{line}\n" for line in lines))
