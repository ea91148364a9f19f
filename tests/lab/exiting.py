"""A home whose way out is a VPN gateway: namespaces for it, its LAN, an ISP that looks at every packet, gateways and a
server outside. The gateways are WireGuard servers that know the home's key; the agent is the real one.

    lan ── home ──(captured)── isp ─┬─ gw1 … gwN
                                    └─ out: a web server and a resolver
"""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from compiler.compile import compile_files
from reconciler.base.control import Unreachable, call
from reconciler.loops.exits.memory import Memory
from reconciler.system.wg_key import generate_private, public_key
from schema.plan.marks import DEFAULT
from tests.lab.twin import eventually
from tests.namespaces import RUN, ip, private_network, run

REPOSITORY = Path(__file__).parents[2]
HOST, EXIT = "nas", "vpn"
HOME, LAN_CLIENT, SERVER, RESOLVER = "192.0.2.10", "192.168.10.20", "203.0.113.80", "203.0.113.53"
CONTAINER = "172.17.0.2"
PORT = 51820
CHECK = f"http://{SERVER}/generate_204"
PATIENCE = 30.0
SOL_PACKET, PACKET_STATISTICS = 263, 6
"""linux/socket.h, linux/if_packet.h"""

SERVICES = """
import http.server, socket, sys, threading, time
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/slow":
            self.send_response(200); self.send_header("Content-Length", "2000000"); self.end_headers()
            for _ in range(200):
                self.wfile.write(b"x" * 10000); self.wfile.flush(); time.sleep(0.05)
            return
        self.send_response(204 if self.path == "/generate_204" else 200)
        body = b"" if self.path == "/generate_204" else self.client_address[0].encode()
        self.send_header("Content-Length", str(len(body))); self.end_headers(); self.wfile.write(body)
    def log_message(self, *words): pass
class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
threading.Thread(target=Server(("203.0.113.80", 80), Handler).serve_forever, daemon=True).start()
def echo():
    flows = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); flows.bind(("203.0.113.80", 7))
    while True:
        _, who = flows.recvfrom(512)
        flows.sendto(who[0].encode(), who)
threading.Thread(target=echo, daemon=True).start()
names = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); names.bind(("203.0.113.53", 53))
print("ready", flush=True)
while True:
    query, who = names.recvfrom(512)
    names.sendto(query + b"answered", who)
"""

PAGE = """
import http.server
server = http.server.ThreadingHTTPServer(("", 80), http.server.SimpleHTTPRequestHandler)
print("ready", flush=True)
server.serve_forever()
"""
"""What a container has to say."""

FLOWS = """
import json, select, socket, sys
flows = {}
for _ in range(int(sys.argv[2])):
    flow = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    flow.connect((sys.argv[1], 7))
    flow.setblocking(False)
    flows[flow] = []
while True:
    for flow in flows:
        try:
            flow.send(b"who?")
        except OSError:
            pass
    for flow in select.select([*flows], [], [], 0.05)[0]:
        try:
            seen = flow.recv(512).decode()
        except OSError:
            continue
        if flows[flow][-1:] != [seen]:
            flows[flow].append(seen)
    if select.select([sys.stdin], [], [], 0.05)[0]:
        if not sys.stdin.readline():
            break
        print(json.dumps([*flows.values()]), flush=True)
"""
"""UDP flows that never rest. For each line that it is given: who each of them was to the server outside, in turn."""

NOISE = """
import socket, sys, time, itertools
outside, near, outside6 = sys.argv[1:]
four = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
six = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
def send(to, where):
    try:
        to.sendto(b"leak?", where)
    except OSError:
        pass
def connect(where):
    one = socket.socket(socket.AF_INET6 if ":" in where[0] else socket.AF_INET, socket.SOCK_STREAM)
    one.setblocking(False)
    try:
        one.connect_ex(where)
    except OSError:
        pass
    return one
kept = []
for turn in itertools.count():
    for port in (9, 53, 123):
        send(four, (outside, port)); send(four, (near, port)); send(six, (outside6, port))
    if turn % 10 == 0:
        kept = [connect((outside, 80)), connect((near, 53)), connect((outside6, 80))]
    time.sleep(0.01)
"""
"""Everything that must not leave beside a tunnel, a hundred times a second: to a server outside, to the ISP's router
and to a server outside by IPv6."""


CONTENT = b"leak?"
"""What `NOISE` has in it."""


@dataclass(frozen=True)
class Packet:
    """What there is to judge a packet by. ARP and what is not known have no addresses."""

    kind: int
    """The EtherType."""
    source: str
    target: str
    protocol: int
    """The IP protocol; of IPv6 the next header."""
    port: int
    """The one that it is for; 0 where the protocol has none."""
    data: bytes
    """From the transport's header on; of IPv6 what comes after the fixed header."""

    @classmethod
    def of(cls, frame: bytes) -> Packet:
        kind, packet = int.from_bytes(frame[12:14], "big"), frame[14:]
        if kind == IPV6:
            source, target = (socket.inet_ntop(socket.AF_INET6, packet[n : n + 16]) for n in (8, 24))
            return cls(kind, source, target, packet[6], 0, packet[40:])
        if kind == IPV4:
            source, target = (socket.inet_ntoa(packet[n : n + 4]) for n in (12, 16))
            data = packet[(packet[0] & 15) * 4 :]
            port = int.from_bytes(data[2:4], "big") if packet[9] in (6, 17) else 0
            return cls(kind, source, target, packet[9], port, data)
        return cls(kind, "", "", 0, 0, packet)

    @property
    def text(self) -> str:
        if self.kind == ARP:
            return "arp"
        if self.kind == IPV6:
            return f"ipv6 {self.protocol}/{self.data[0]} to {self.target}"
        if self.kind == IPV4:
            return f"protocol {self.protocol} from {self.source} to {self.target}:{self.port}"
        return f"ethernet {self.kind:#x}"


ARP, IPV4, IPV6 = 0x0806, 0x0800, 0x86DD


def judge(packet: Packet) -> tuple[str, bool]:
    """What a packet from the home is, and whether it should not be there."""
    if packet.kind == ARP:
        return packet.text, False
    if packet.kind == IPV6:
        near = packet.target.startswith(("ff02:", "fe80:", "2001:db8:2:"))
        return packet.text, not near or packet.protocol not in (0, 58)
    if packet.kind != IPV4 or packet.source != HOME:
        return packet.text, True
    to_gateway = packet.target.startswith("198.51.100.")
    match packet.protocol, packet.port:
        case 17, port if to_gateway and port == PORT:
            return "tunnel", False
        case (1, _) | (6, 443) if to_gateway:
            return "latency", False
        case 1, _ if packet.target == "192.0.2.1":
            return "the agent's look at its gateway", False
    return packet.text, True


@dataclass
class Capture:
    """Every packet from the home to its ISP, by what it is."""

    judge: Callable[[Packet], tuple[str, bool]] = judge
    seen: Counter[str] = field(default_factory=Counter)
    leaks: Counter[str] = field(default_factory=Counter)
    first: float | None = None
    """When the first leak was seen, in seconds since 1970."""

    def listen(self, interface: str) -> None:
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0003))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 24)
        self._socket.bind((interface, 0))
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        with suppress(OSError):
            while True:
                packet, address = self._socket.recvfrom(2048)
                if address[2] == socket.PACKET_OUTGOING:
                    continue  # what comes to the home is no leak of it
                kind, leaks = self.judge(Packet.of(packet))
                self.seen[kind] += 1
                if leaks:
                    self.leaks[kind] += 1
                    self.first = self.first or time.time()

    def close(self) -> None:
        self._socket.close()

    def begin(self) -> None:
        """What came so far does not count."""
        self.first = None
        self.seen.clear()
        self.leaks.clear()

    @property
    def missed(self) -> int:
        """Packets that came too fast to be looked at since this was last asked (packet(7), PACKET_STATISTICS)."""
        return int(struct.unpack("II", self._socket.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))[1])

    @property
    def text(self) -> str:
        return f"{self.seen.total()} packets looked at, {self.leaks.total()} leaked: {dict(self.seen)}"


@dataclass
class Home:
    """The world, with an agent that may run."""

    folder: Path
    gateways: int
    capture: Capture = field(default_factory=Capture)
    agents: list[subprocess.Popen[bytes]] = field(default_factory=list)
    others: list[subprocess.Popen[bytes]] = field(default_factory=list)
    keys: list[bytes] = field(default_factory=list)
    marks: str = str(DEFAULT)
    """What the fabric says of marks."""

    # Building

    def build(self) -> None:
        for name in ("home", "lan", "container", "out"):
            _namespace(name)
        _cable("isp-home", "home", "eth0", ["192.0.2.1/24", "2001:db8:2::1/64"], [f"{HOME}/24", "2001:db8:2::10/64"])
        self.underlay()
        _cable("isp-out", "out", "eth0", ["203.0.113.1/24", "2001:db8:113::1/64"], [f"{SERVER}/24", f"{RESOLVER}/24"])
        _inside("out", "ip address add 2001:db8:113::80/64 dev eth0 nodad")
        _inside("out", "ip route add default via 203.0.113.1")
        _inside("out", "ip route add default via 2001:db8:113::1")
        ip("link add lan0 netns home type veth peer name eth0 netns lan")
        for words in ("address add 192.168.10.1/24 dev lan0", "address add fd00:192::1/64 dev lan0 nodad"):
            _inside("home", f"ip {words}")
        for words in (f"address add {LAN_CLIENT}/24 dev eth0", "address add fd00:192::20/64 dev eth0 nodad"):
            _inside("lan", f"ip {words}")
        _inside("home", "ip link set lan0 up")
        _inside("lan", "ip link set eth0 up")
        _inside("lan", "ip route add default via 192.168.10.1")
        _inside("lan", "ip route add default via fd00:192::1")
        # A bridge of somebody else's, as of containers, and a second way to the internet.
        ip("link add docker0 netns home type veth peer name eth0 netns container")
        _inside("home", "ip address add 172.17.0.1/16 dev docker0")
        _inside("home", "ip link set docker0 up")
        _inside("container", f"ip address add {CONTAINER}/16 dev eth0")
        _inside("container", "ip link set eth0 up")
        _inside("container", "ip route add default via 172.17.0.1")
        _cable(
            "isp-wlan", "home", "wlan0", ["192.0.3.1/24", "2001:db8:3::1/64"], ["192.0.3.10/24", "2001:db8:3::10/64"]
        )
        run("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1")
        # As many a distribution has it: the way back has to be the way here.
        _inside("home", "sysctl -qw net.ipv4.conf.all.rp_filter=1 net.ipv4.conf.eth0.rp_filter=1")
        for n in range(1, self.gateways + 1):
            self._gateway(n)
        self._start("out", SERVICES, wait=True)
        self.capture.listen("isp-home")

    def underlay(self) -> None:
        """As the home's operating system sets it up."""
        _inside("home", "ip link set eth0 up")
        _inside("home", "ip address replace 2001:db8:2::10/64 dev eth0 nodad")
        _inside("home", "ip route replace default via 192.0.2.1")
        _inside("home", "ip route replace default via 2001:db8:2::1")

    def _gateway(self, n: int) -> None:
        name, key = f"gw{n}", generate_private()
        self.keys.append(key)
        _namespace(name)
        _cable(f"isp-{name}", name, "eth0", [f"198.51.100.{4 * n + 1}/30"], [f"{self.address(n)}/30"])
        _inside(name, f"ip route add default via 198.51.100.{4 * n + 1}")
        _inside(name, "sysctl -qw net.ipv4.ip_forward=1")
        _inside(name, f"wireguard-go {name}")
        secret = self.folder / f"{name}.key"
        secret.write_text(_base64(key))
        _inside(
            name, f"wg set {name} private-key {secret} listen-port {PORT} peer {self.public} allowed-ips 10.64.0.2/32"
        )
        _inside(name, f"ip address add 10.64.0.1/24 dev {name}")
        _inside(name, f"ip link set {name} up")
        _inside(name, "iptables -t nat -A POSTROUTING -o eth0 -j MASQUERADE")

    @property
    def state(self) -> Path:
        return self.folder / "state"

    @property
    def public(self) -> str:
        return Memory(self.state, EXIT).public_key()

    @staticmethod
    def address(n: int) -> str:
        return f"198.51.100.{4 * n + 2}"

    def _start(self, where: str, script: str, *words: str, wait: bool = False) -> subprocess.Popen[bytes]:
        command = ["ip", "netns", "exec", where, sys.executable, "-c", script, *words]
        found = subprocess.Popen(command, stdout=subprocess.PIPE if wait else None)
        if wait:
            assert found.stdout is not None
            assert found.stdout.readline() == b"ready\n"
            found.stdout.close()
        self.others.append(found)
        return found

    # The plan

    def plan(self, **changes: Any) -> None:
        """Hand the agent a plan with this exit; with None for none."""
        gateways = {
            f"g{n}": {
                "endpoint": f"{self.address(n)}:{PORT}",
                "public_key": public_key(self.keys[n - 1]),
                "addresses": "10.64.0.2",
            }
            for n in range(1, self.gateways + 1)
        }
        health = {"interval": "1s", "timeout": "1s", "check": CHECK, **changes.pop("health", {})}
        exit = {"provider": "static", "gateways": gateways, "dns": RESOLVER, "health": health, "hold": "5s", **changes}
        self.write({} if changes.get("without") else {EXIT: exit})

    def write(self, exits: dict[str, Any]) -> None:
        host = {"underlay": {"interface": "eth0", "addresses": f"{HOME}/24"}, "lans": {"lan0": LANS}, "exits": exits}
        host["underlay"] = {"interface": "eth0", "addresses": [f"{HOME}/24", "2001:db8:2::10/64"]}
        files = {
            "fabric.yaml": f"fabric: wan\nversion: 1\nmarks: {self.marks}\n".encode(),
            "home.yaml": json.dumps({"site": "home", "kind": "edge", "hosts": {HOST: host}}).encode(),
            f"keys/{HOST}.pub": public_key(self._own_key()).encode(),
        }
        result = compile_files(files)
        assert not result.failed, [problem.text() for problem in result.problems]
        there = self.folder / "plans" / HOST / "plan.json"
        there.parent.mkdir(parents=True, exist_ok=True)
        there.write_bytes(result.plan(HOST).canonical())

    def _own_key(self) -> bytes:
        from reconciler.state.keys import ensure_file, read_key

        ensure_file(self.folder / "keys" / "private.key")
        return read_key(self.folder / "keys" / "private.key")

    # The agent

    @property
    def socket(self) -> str:
        return str(self.folder / "agent.sock")

    def start(self, log: str = "agent.log") -> subprocess.Popen[bytes]:
        config = self.folder / "agent.yaml"
        config.write_text(
            f"host: {HOST}\nsource: {{plans: {self.folder}/plans}}\npoll: {{interval: 2s, jitter: 1s}}\n"
            f"state: {self.state}\nsocket: {self.socket}\nkeys: {self.folder}/keys\nmetrics: off\n"
        )
        with (self.folder / log).open("ab") as output:
            command = ["ip", "netns", "exec", "home", sys.executable, "-m", "gitwan", "agent", "run"]
            found = subprocess.Popen(
                [*command, "--config", str(config)],
                cwd=REPOSITORY,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self.agents.append(found)
        return found

    def kill(self) -> None:
        """SIGKILL for the agent and its parent, at once."""
        for agent in self.agents:
            children = Path(f"/proc/{agent.pid}/task/{agent.pid}/children")
            for number in [agent.pid, *map(int, children.read_text().split() if children.exists() else [])]:
                with suppress(ProcessLookupError):
                    os.kill(number, signal.SIGKILL)
            agent.wait()
        self.agents.clear()

    def order(self, order: str = "", **words: object) -> dict[str, Any]:
        return call(self.socket, "exits", order=order, **words)

    @property
    def exit(self) -> dict[str, Any]:
        """As the agent says; without tunnels while none answers."""
        try:
            rows = self.order().get("exits", [])
        except Unreachable:
            rows = []
        return dict(rows[0]) if rows else {"tunnels": []}

    def carrying(self) -> list[str]:
        """The gateways that carry traffic, as the agent says."""
        return [tunnel["gateway"] for tunnel in self.exit["tunnels"] if tunnel["phase"] == "carrying"]

    def elected(self, before: Sequence[str] = (), seconds: float = PATIENCE) -> list[str]:
        """The gateways that carry traffic, once there are any, and others than those before.

        The kernel has them first, and the agent says so then: whoever has seen packets pass may still ask too early.
        """
        found: list[str] = []

        def there() -> bool:
            found[:] = self.carrying()
            return found not in ([], [*before])

        self.until(there, "elected", seconds)
        return found

    def until(self, true: Callable[[], bool], what: str, seconds: float = PATIENCE) -> None:
        """Wait for what the agent brings about."""
        try:
            eventually(true, seconds, what)
        except AssertionError as error:
            error.add_note((self.folder / "agent.log").read_text()[-4000:])
            raise

    # Gateways

    def silence(self, gateway: str, silent: bool = True) -> None:
        """Have a gateway answer nothing any more, by any way."""
        _inside(f"gw{gateway[1:]}", f"ip link set eth0 {'down' if silent else 'up'}")
        if not silent:
            _inside(f"gw{gateway[1:]}", f"ip route replace default via 198.51.100.{4 * int(gateway[1:]) + 1}")

    def carried(self, gateway: str = "") -> bool:
        """Whether the server outside sees the LAN come from this gateway, or from any."""
        seen = self.fetch("lan", seconds=1.0)
        return seen.startswith("198.51.100.") if not gateway else seen == self.address(int(gateway[1:]))

    # People

    def noise(self, where: str) -> None:
        self._start(where, NOISE, SERVER, "192.0.2.1", "2001:db8:113::80")

    @contextmanager
    def flows(self, count: int) -> Iterator[Callable[[], list[list[str]]]]:
        """Flows from the LAN; what is given says by which gateways each of them has gone so far."""
        command = ["ip", "netns", "exec", "lan", sys.executable, "-c", FLOWS, SERVER, str(count)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) as process:

            def ways() -> list[list[str]]:
                assert process.stdin is not None and process.stdout is not None
                print(file=process.stdin)
                found: list[list[str]] = json.loads(process.stdout.readline())
                return found

            yield ways

    def publish(self) -> None:
        """As container engines do it: a port of the host, whichever way it is reached, leads to a container."""
        to = f"-p tcp -m addrtype --dst-type LOCAL --dport 8080 -j DNAT --to-destination {CONTAINER}:80"
        _inside("home", f"iptables -t nat -A PREROUTING {to}")
        self._start("container", PAGE, wait=True)

    def refused(self) -> int:
        """Packets that were to leave beside a tunnel so far, and did not."""
        chains = [self.inside("home", f"{tool} -nvxL GITWAN-EXIT-{chain}") for tool, chain in REFUSING]
        return sum(int(line.split()[0]) for text in chains for line in text.splitlines() if " REJECT " in line)

    def fetch(self, where: str = "lan", path: str = "/", seconds: float = 2.0) -> str:
        """What the server outside says, which is the address that it sees; nothing where it is not reached."""
        command = ["ip", "netns", "exec", where, "curl", "-s", "-m", str(seconds), f"http://{SERVER}{path}"]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout

    def inside(self, where: str, command: str) -> str:
        return _inside(where, command)

    def end(self) -> None:
        self.capture.close()
        self.kill()
        for other in self.others:
            other.kill()
            other.wait()
        for line in ip("netns list").splitlines():
            name = line.split()[0]
            for dev in RUN.glob("*.sock"):  # wireguard-go ends with its interface, and outlives its namespace
                subprocess.run(
                    ["ip", "netns", "exec", name, "ip", "link", "del", dev.stem], check=False, capture_output=True
                )
            ip(f"netns delete {name}")


REFUSING = [(tool, chain) for tool in ("iptables", "ip6tables") for chain in ("FORWARD", "OUTPUT")]
LANS = ["192.168.10.1/24", "fd00:192::1/64"]


@contextmanager
def home(folder: Path, gateways: int = 3) -> Iterator[Home]:
    with private_network():
        found = Home(folder, gateways)
        try:
            found.build()
            yield found
        finally:
            found.end()


def _namespace(name: str) -> None:
    ip(f"netns add {name}")
    _inside(name, "ip link set lo up")
    _inside(name, "sysctl -qw net.ipv6.conf.all.accept_dad=0 net.ipv6.conf.default.accept_dad=0")


def _cable(here: str, where: str, there: str, ours: list[str], theirs: list[str]) -> None:
    ip(f"link add {here} type veth peer name {there} netns {where}")
    for address in ours:
        ip(f"address add {address} dev {here}" + (" nodad" if ":" in address else ""))
    for address in theirs:
        _inside(where, f"ip address add {address} dev {there}" + (" nodad" if ":" in address else ""))
    ip(f"link set {here} up")
    _inside(where, f"ip link set {there} up")


def _inside(where: str, command: str) -> str:
    return run(f"ip netns exec {where} {command}")


def _base64(key: bytes) -> str:
    from base64 import b64encode

    return b64encode(key).decode()
