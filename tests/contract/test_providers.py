"""The adapters against the twins: real TLS, real WireGuard, over lines with a distance, from a home of its own.

Row by row what can go wrong with a provider, each with a reason of its own and nothing of a secret in its words.
"""

from __future__ import annotations

import math
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from lab import world
from lab.blueprint import INTERNET, Blueprint
from lab.folder import LabFolder
from lab.netns import within
from lab.provider import mullvad as mullvad_twin
from lab.provider import pia as pia_twin
from lab.provider.make import Files, make
from lab.provider.places import OUTSIDE, OUTSIDE_NAME, draw, gates_of
from reconciler.base.control import call
from reconciler.base.web import Request, Response
from reconciler.loops.exits.providers.base import Gateway, Provider, ProviderError, Registration
from reconciler.loops.exits.providers.build import pinned
from reconciler.loops.exits.providers.cache import Cache
from reconciler.loops.exits.providers.mullvad import Mullvad
from reconciler.loops.exits.providers.pia import Pia
from reconciler.system.https import sender
from reconciler.system.probe import resolves
from reconciler.system.wg_key import encode, generate_private, public_key
from schema.plan.marks import DEFAULT
from tests.contract.conftest import needs_root
from tests.lab.twin import eventually
from tests.namespaces import private_network, run

pytestmark = pytest.mark.root
HOME, HOME_ADDRESS = "home", "198.18.9.2"
KINDS = ("pia", "mullvad")


@dataclass
class Net:
    """The twins, and a home that reaches them."""

    folder: LabFolder
    plan: Blueprint

    def http(self, request: Request) -> Response:
        """From the home, which has no resolver and trusts the twins' authority."""
        address = request.address or self.plan.names[request.name]
        ca = request.ca or Files(self.folder.provider).authority.read_text()
        with within(HOME):
            return sender(DEFAULT.bypass)(replace(request, address=address, ca=ca, seconds=min(request.seconds, 3.0)))

    def fault(self, at: str, fault: str) -> None:
        assert call(str(self.folder.provider_socket), "fault", at=at, fault=fault) == {"ok": True}

    def line(self, name: str, **values: object) -> dict[str, Any]:
        found: dict[str, Any] = call(str(self.folder.relay_socket), "line", line=name, values=values)["line"]
        return found

    def pia(self, cache: Path, dedicated: bool = False) -> Pia:
        account = f"{pia_twin.ACCOUNT}\n{pia_twin.DEDICATED if dedicated else ''}".encode()
        pia = Files(self.folder.provider).pia
        return Pia(self.http, time.time, Cache(cache), lambda: account, lambda: pinned(pia))

    def mullvad(self, cache: Path) -> Mullvad:
        return Mullvad(self.http, time.time, Cache(cache), mullvad_twin.ACCOUNT.encode)


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Net]:
    needs_root()
    folder = LabFolder(tmp_path_factory.mktemp("net"))
    folder.logs.mkdir()
    make(Files(folder.provider), KINDS)
    plan = Blueprint()
    plan.space(INTERNET, "router")
    plan.space(HOME, "workload")
    plan.wire((INTERNET, HOME), (HOME, "eth0"))
    plan.address(INTERNET, HOME, "198.18.9.1/24")
    plan.address(HOME, "eth0", f"{HOME_ADDRESS}/24")
    plan.default(HOME, "198.18.9.1")
    draw(plan, KINDS)
    processes: list[subprocess.Popen[bytes]] = []
    with private_network():
        try:
            world.prepare()
            world.build(plan, folder)
            processes.append(world.start_relay(plan, folder))
            world.wait_for_socket(folder.relay_socket, processes[-1])
            processes.append(world.start_providers(plan, folder, KINDS))
            world.wait_for_socket(folder.provider_socket, processes[-1])
            processes.append(world.start_workload(folder, OUTSIDE))
            yield Net(folder, plan)
        finally:
            for process in processes:
                process.kill()
                process.wait()
            for gate in gates_of(KINDS):
                # wireguard-go ends with its device.
                subprocess.run(["ip", "-n", gate.space, "link", "del", gate.tunnel], check=False, capture_output=True)


@pytest.fixture
def pia(net: Net, tmp_path: Path) -> Pia:
    return net.pia(tmp_path / "pia")


@pytest.fixture
def mullvad(net: Net, tmp_path: Path) -> Mullvad:
    return net.mullvad(tmp_path / "mullvad")


@dataclass
class Key:
    private: bytes
    public: str


@pytest.fixture
def key() -> Key:
    private = generate_private()
    return Key(private, public_key(private))


def gateway(provider: Provider, name: str) -> Gateway:
    return next(gateway for gateway in provider.discover() if gateway.id == name)


@pytest.fixture
def tunnel(net: Net, key: Key, tmp_path: Path) -> Iterator[Callable[[Registration], None]]:
    """Brings a tunnel up in the home: all that is not marked, and not for the gateway, leaves by it."""
    (tmp_path / "key").write_text(encode(key.private))

    def bring_up(session: Registration) -> None:
        if subprocess.run(["ip", "-n", HOME, "link", "show", "wg0"], capture_output=True, check=False).returncode:
            subprocess.run(world.inside(HOME, "wireguard-go", "wg0"), check=True, capture_output=True)
        home = f"nsenter --net=/run/netns/{HOME} --"
        run(f"{home} wg set wg0 private-key {tmp_path / 'key'} fwmark {DEFAULT.bypass:#x}")
        for peer in run(f"{home} wg show wg0 peers").split():
            run(f"{home} wg set wg0 peer {peer} remove")
        peer = f"peer {session.public_key} endpoint {session.endpoint} allowed-ips 0.0.0.0/0,::/0"
        run(f"{home} wg set wg0 {peer} persistent-keepalive {session.keepalive}")
        run(f"ip -n {HOME} address flush dev wg0")
        for address in session.addresses:
            run(f"ip -n {HOME} address add {address} dev wg0{' nodad' if ':' in address else ''}")
        run(f"ip -n {HOME} link set wg0 mtu 1420 up")
        for version in ("-4", "-6"):
            run(f"ip {version} -n {HOME} route replace default dev wg0 table 7")
            subprocess.run(f"ip {version} -n {HOME} rule del priority 50".split(), capture_output=True, check=False)
            run(f"ip {version} -n {HOME} rule add priority 50 not fwmark {DEFAULT.bypass:#x} lookup 7")

    yield bring_up
    for version in ("-4", "-6"):
        subprocess.run(f"ip {version} -n {HOME} rule del priority 50".split(), capture_output=True, check=False)
    subprocess.run(["ip", "-n", HOME, "link", "del", "wg0"], capture_output=True, check=False)


def seen_by(net: Net, host: str) -> str:
    """What a service outside says of a request from the home by whatever way the routes have."""
    with within(HOME):
        request = Request(OUTSIDE_NAME, "/", host, 80, tls=False, seconds=10.0)
        return sender(mark=0)(request).body.decode().strip()


def handshake(name: str) -> int:
    home = f"nsenter --net=/run/netns/{HOME} --"
    return int(run(f"{home} wg show wg0 latest-handshakes").split()[1])


# What works


def test_the_list_has_regions_at_distances_that_can_be_measured(net: Net, pia: Pia) -> None:
    gateways = pia.discover()
    assert len({gateway.region for gateway in gateways}) >= 5
    wanted = {one.id: 2000 * net.plan.lines[one.id][0].delay for one in gateways}
    nearest = sorted(wanted, key=wanted.__getitem__)
    best = dict.fromkeys(wanted, math.inf)

    def measured() -> bool:
        """The shortest round trips so far: a busy machine makes some longer, and none shorter."""
        for gateway in gateways:
            with within(HOME):
                out = run(f"ping -n -c 3 -i 0.01 {gateway.addresses[0]}")
            best[gateway.id] = min(best[gateway.id], float(out.rsplit("= ", 1)[1].split("/")[0]))
        return sorted(best, key=best.__getitem__) == nearest

    eventually(measured, what=f"from the nearest to the farthest: {', '.join(nearest)}")
    assert all(best[name] >= wanted[name] for name in best)


def test_a_tunnel_to_pia_carries_what_leaves_the_home(
    net: Net, pia: Pia, key: Key, tunnel: Callable[[Registration], None]
) -> None:
    chosen = gateway(pia, "uk/london401")
    outside = net.plan.names[OUTSIDE_NAME]
    assert seen_by(net, outside) == f"{OUTSIDE} saw {HOME_ADDRESS}"
    session = pia.register(chosen, key.public)
    tunnel(session)
    assert seen_by(net, outside) == f"{OUTSIDE} saw {chosen.addresses[0]}"
    assert handshake("wg0") > 0
    with within(HOME):
        assert resolves(OUTSIDE_NAME, session.dns[0], 5.0)


def test_a_second_key_of_an_account_ends_the_first(net: Net, pia: Pia, key: Key) -> None:
    """As reported of the real servers: one active key for each account and server."""
    chosen = gateway(pia, "uk/london401")
    pia.register(chosen, key.public)
    other = public_key(generate_private())
    pia.register(chosen, other)
    space = next(gate for gate in gates_of(KINDS) if gate.id == chosen.id)
    peers = run(f"nsenter --net=/run/netns/{space.space} -- wg show {space.tunnel} peers").split()
    assert other in peers and key.public not in peers


def test_a_dedicated_ip_is_connected_to_with_its_own_token(net: Net, tmp_path: Path, key: Key) -> None:
    pia = net.pia(tmp_path / "own", dedicated=True)
    [own] = pia.discover()
    assert own.id == "dedicated/london402"
    assert pia.register(own, key.public).endpoint == f"{own.addresses[0]}:1337"


def test_a_forwarded_port_leads_into_the_home(
    net: Net, pia: Pia, key: Key, tunnel: Callable[[Registration], None], tmp_path: Path
) -> None:
    session = pia.register(gateway(pia, "uk/london401"), key.public)
    tunnel(session)
    port = pia.forward(session, "wg0")
    assert port is not None
    with within(HOME):
        command = ["python3", "-m", "http.server", "--directory", str(tmp_path), str(port.port)]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        address = session.gateway.addresses[0]
        run(
            f"nsenter --net=/run/netns/{OUTSIDE} -- curl -s --retry 5 --retry-all-errors -m 10 http://{address}:{port.port}/"
        )
    finally:
        server.kill()
        server.communicate()
    again = pia.forward(session, "wg0")
    assert again is not None and again.port == port.port


def test_mullvad_changes_relays_without_a_question(
    net: Net, mullvad: Mullvad, key: Key, tunnel: Callable[[Registration], None]
) -> None:
    first, second = gateway(mullvad, "se-mma/se-mma-wg-001"), gateway(mullvad, "no-osl/no-osl-wg-001")
    tunnel(mullvad.register(first, key.public))
    outside = net.plan.names[OUTSIDE_NAME]
    assert seen_by(net, outside) == f"{OUTSIDE} saw {first.addresses[0]}"
    # IPv6 within the tunnel, as its list promises, although the home has none of its own.
    assert seen_by(net, "2001:db8:fe:66::2") == f"{OUTSIDE} saw {first.addresses[1]}"
    net.fault("mullvad-api", "silence")
    try:
        session = mullvad.register(second, key.public)
        tunnel(session)
        assert seen_by(net, outside) == f"{OUTSIDE} saw {second.addresses[0]}"
    finally:
        net.fault("mullvad-api", "")
    mullvad.release(session)
    gate = next(gate for gate in gates_of(KINDS) if gate.id == second.id)
    assert key.public not in run(f"nsenter --net=/run/netns/{gate.space} -- wg show {gate.tunnel} peers")


# What goes wrong


def failure(what: Callable[[], object], key: Key) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        what()
    secrets = [pia_twin.USER, pia_twin.PASSWORD, pia_twin.DEDICATED, mullvad_twin.ACCOUNT, "mva_", key.public]
    assert not any(secret in f"{caught.value} {caught.value!r}" for secret in secrets)
    return caught.value


@pytest.fixture
def faulty(net: Net) -> Iterator[Callable[[str, str], None]]:
    """Switches a fault on until the test is over."""
    places: list[str] = []

    def switch(at: str, fault: str) -> None:
        net.fault(at, fault)
        places.append(at)

    yield switch
    for place in places:
        net.fault(place, "")


ANY_SERVICE = [
    ("silence", "TimedOut"),
    ("http-500", "HttpError"),
    ("huge", "TooLarge"),
    ("other-name", "CertificateWrong"),
    ("not-yet-valid", "ClockWrong"),
]


@pytest.mark.parametrize(
    ("fault", "reason"), [*ANY_SERVICE, ("garbage", "ListUnreadable"), ("list-signature", "SignatureWrong")]
)
def test_a_list_that_is_not_to_be_had_keeps_the_last_one(
    pia: Pia, key: Key, faulty: Callable[[str, str], None], fault: str, reason: str
) -> None:
    before = pia.discover()
    faulty("pia-api", fault)
    assert failure(pia.discover, key).reason == reason
    assert pia.known() == before


@pytest.mark.parametrize(
    ("fault", "reason"), [*ANY_SERVICE, ("garbage", "AnswerUnreadable"), ("refuse-key", "Refused")]
)
def test_a_server_that_adds_no_key_says_why(
    pia: Pia, key: Key, faulty: Callable[[str, str], None], fault: str, reason: str
) -> None:
    chosen = gateway(pia, "nl_amsterdam/amsterdam401")
    pia.register(gateway(pia, "uk/london401"), key.public)
    faulty("amsterdam401", fault)
    assert failure(partial(pia.register, chosen, key.public), key).reason == reason


def test_tokens_of_yesterday_are_replaced_and_new_ones_that_are_refused_are_an_error(
    net: Net, pia: Pia, key: Key, faulty: Callable[[str, str], None]
) -> None:
    chosen = gateway(pia, "uk/london401")
    pia.register(chosen, key.public)
    net.fault("", "forget-tokens")
    pia.register(chosen, key.public)
    faulty("pia-api", "tokens-expire")
    assert failure(partial(pia.register, chosen, key.public), key).reason == "TokenExpired"


def test_where_the_web_site_is_silent_a_server_gives_the_token(
    pia: Pia, key: Key, faulty: Callable[[str, str], None]
) -> None:
    chosen = gateway(pia, "uk/london401")
    faulty("pia-api", "silence")
    assert pia.register(chosen, key.public).server_vip is not None


def test_a_busy_port_is_said_to_be_so(
    pia: Pia, key: Key, tunnel: Callable[[Registration], None], faulty: Callable[[str, str], None]
) -> None:
    session = pia.register(gateway(pia, "uk/london401"), key.public)
    tunnel(session)
    faulty("london401", "port-busy")
    error = failure(lambda: pia.forward(session, "wg0"), key)
    assert error.reason == "PortRefused" and "is busy" in error.message


@pytest.mark.parametrize(
    ("fault", "reason"),
    [*ANY_SERVICE, ("garbage", "AnswerUnreadable"), ("device-limit", "DeviceLimit"), ("tokens-expire", "TokenExpired")],
)
def test_mullvad_without_a_device_says_why(
    mullvad: Mullvad, key: Key, faulty: Callable[[str, str], None], fault: str, reason: str
) -> None:
    chosen = gateway(mullvad, "se-mma/se-mma-wg-001")
    faulty("mullvad-api", fault)
    assert failure(partial(mullvad.register, chosen, key.public), key).reason == reason


def test_a_line_can_be_made_longer_and_cut(net: Net, pia: Pia) -> None:
    chosen = gateway(pia, "japan/tokyo401")
    address = chosen.addresses[0]
    before = net.line(chosen.id)
    try:
        assert net.line(chosen.id, delay=0.2)["delay"] == 0.2
        with within(HOME):
            assert float(run(f"ping -n -c 1 {address}").rsplit("= ", 1)[1].split("/")[0]) >= 400
        net.line(chosen.id, silent=True)
        with within(HOME):
            assert subprocess.run(["ping", "-c", "1", "-W", "1", address], capture_output=True, check=False).returncode
    finally:
        net.line(chosen.id, **before)


def test_a_captive_portal_answers_in_everybodys_place(
    net: Net, pia: Pia, key: Key, tunnel: Callable[[Registration], None], faulty: Callable[[str, str], None]
) -> None:
    tunnel(pia.register(gateway(pia, "uk/london401"), key.public))
    faulty("london401", "portal")
    assert "Sign in" in seen_by(net, net.plan.names[OUTSIDE_NAME])


def test_the_twins_write_no_token_into_their_log(net: Net, pia: Pia, key: Key) -> None:
    pia.register(gateway(pia, "uk/london401"), key.public)
    log = (net.folder.logs / "provider.log").read_text()
    assert "london401: 198.18.9.2 GET /addKey" in log
    assert "pt=" not in log and pia_twin.PASSWORD not in log
