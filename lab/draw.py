"""Fabric -> description of the lab's network. Pure.

The lab simulates everything that gitwan does not manage: the internet and its routers, a provider's NAT, a VPC with its
route table, the network configuration of an operating system, and machines on the LANs.
"""

from __future__ import annotations

from itertools import count

from compiler.fabric.model import Fabric, Group, Node
from compiler.fabric.summary import PRIVATE
from lab.blueprint import GIT_ADDRESS, GIT_ADDRESS6, INTERNET, SPARE, Blueprint, Pinger
from schema.desired import Region
from schema.ip import BITS, Interface, Prefix, address_text, is_private


def draw(fabric: Fabric) -> Blueprint:
    """The lab's network for a fabric. Equal fabrics give equal results."""
    plan = Blueprint()
    plan.space(INTERNET, "router")
    plan.space("git", "git")
    plan.wire((INTERNET, "git"), ("git", "eth0"))
    plan.address(INTERNET, "git", f"{_public(0, 1)}/24")
    plan.address("git", "eth0", f"{GIT_ADDRESS}/24")
    plan.default("git", _public(0, 1))
    plan.address(INTERNET, "git", "2001:2:0:1::1/64")
    plan.address("git", "eth0", f"{GIT_ADDRESS6}/64")
    plan.default("git", "2001:2:0:1::1")
    number = count(1)
    for _, node in sorted(fabric.nodes.items()):
        plan.space(node.name, "host")
    for name, node in sorted(fabric.nodes.items()):
        underlay = node.model.underlay
        if underlay.bond:
            plan.notes.append(
                f"{name}: the bond {underlay.dev} of {len(underlay.bond.members)} ports is one virtual port here"
            )
        if underlay.addresses == "dhcp":
            _behind_nat(plan, node, next(number))
        elif all(is_private(address) for address in underlay.addresses):
            _behind_router(plan, node, underlay.addresses, number)
        else:
            _on_the_internet(plan, node, underlay.addresses, number)
    for site, nodes in sorted(fabric.sites.items()):
        _lans(plan, site, nodes, fabric.groups.get(site))
        if isinstance(nodes[0].doc.model, Region):
            _vpc(plan, fabric, nodes)
    for name, _ in sorted(fabric.clients.items()):
        _client(plan, fabric, name, next(number))
    _spare(plan, fabric)
    return plan


def _uplink(plan: Blueprint, space: str, dev: str, number: int) -> None:
    """A wire to the internet, with addresses of the lab."""
    port = f"up{number}"
    plan.wire((INTERNET, port), (space, dev))
    plan.address(INTERNET, port, f"{_public(number, 1)}/24")
    plan.address(space, dev, f"{_public(number, 2)}/24")
    plan.default(space, _public(number, 1))


def _public(number: int, host: int) -> str:
    """An address on the uplink with this number, in 198.18.0.0/15."""
    return f"198.{18 + number // 256}.{number % 256}.{host}"


def _carrier(number: int, host: int) -> str:
    """An address behind the provider with this number, in 100.64.0.0/10."""
    return f"100.{64 + number // 256}.{number % 256}.{host}"


def _behind_nat(plan: Blueprint, node: Node, number: int) -> None:
    router = f"isp-{node.name}"
    plan.space(router, "router")
    _uplink(plan, router, "wan", number)
    dev = node.model.underlay.dev
    plan.wire((router, "lan"), (node.name, dev))
    plan.address(router, "lan", f"{_carrier(number, 1)}/24")
    plan.address(node.name, dev, f"{_carrier(number, 2)}/24")
    plan.default(node.name, _carrier(number, 1))
    _translate(plan, node, router, _carrier(number, 2), number)


def _translate(plan: Blueprint, node: Node, router: str, inside: str, number: int) -> None:
    """NAT: one to one if the host has a public address, otherwise masquerading as in a home router."""
    for public in node.model.underlay.public:
        if isinstance(public, Interface) and public.version == 4:
            outside = public.address
        elif isinstance(public, str):
            outside = _public(number, 100)
            plan.names[public] = outside
        else:
            continue
        plan.spaces[INTERNET].ip.append(f"route add {outside}/32 via {_public(number, 2)}")
        plan.spaces[router].nat += [
            f"-A PREROUTING -i wan -d {outside} -j DNAT --to-destination {inside}",
            f"-A POSTROUTING -o wan -s {inside} -j SNAT --to-source {outside}",
        ]
    plan.spaces[router].nat.append("-A POSTROUTING -o wan -j MASQUERADE")


def _gateways(node: Node, addresses: tuple[Interface, ...]) -> dict[int, Interface]:
    """IP version -> the router's address in the host's network, with the prefix length of the network."""
    found = {}
    written = {gateway.version: gateway for gateway in node.model.underlay.gateway}
    for address in addresses:
        network = address.network
        value = written[address.version].value if address.version in written else network.first + 1
        found[address.version] = Interface(address.version, value, network.length)
    return found


def _router_of(plan: Blueprint, node: Node, number: count[int]) -> str:
    router = f"net-{node.site}"
    if router not in plan.spaces:
        plan.space(router, "router")
        _uplink(plan, router, "wan", next(number))
    return router


def _behind_router(plan: Blueprint, node: Node, addresses: tuple[Interface, ...], number: count[int]) -> None:
    """A host with private addresses, as in a VPC. A router of the site translates its public address."""
    router = _router_of(plan, node, number)
    uplink = next(wire.a[1] for wire in plan.wires if wire.b == (router, "wan"))
    _segment(plan, router, node, addresses)
    for address in addresses:
        if address.version == 4:
            _translate(plan, node, router, address.address, int(uplink.removeprefix("up")))


def _on_the_internet(plan: Blueprint, node: Node, addresses: tuple[Interface, ...], number: count[int]) -> None:
    _segment(plan, INTERNET, node, addresses)
    for public in node.model.underlay.public:
        if isinstance(public, str):
            plan.names[public] = addresses[0].address
        elif public.host not in [address.host for address in addresses]:
            vias = [a.address for a in addresses if a.version == public.version]
            plan.spaces[INTERNET].ip += [f"route add {public.host} via {via}" for via in vias[:1]]


def _segment(plan: Blueprint, router: str, node: Node, addresses: tuple[Interface, ...]) -> None:
    """The wire between a host and its router. Hosts in the same network share a bridge on the router."""
    lines = plan.spaces[router].ip
    bridge = plan.bridges.setdefault((router, addresses[0].network), f"br{len(plan.bridges)}")
    if f"link add {bridge} type bridge" not in lines:
        lines += [f"link add {bridge} type bridge", f"link set {bridge} up"]
        for gateway in _gateways(node, addresses).values():
            plan.address(router, bridge, str(gateway))
    port = f"p{len(plan.wires)}"
    dev = node.model.underlay.dev
    plan.wire((router, port), (node.name, dev))
    lines.append(f"link set {port} master {bridge}")
    for address in addresses:
        plan.address(node.name, dev, str(address))
    for gateway in _gateways(node, addresses).values():
        plan.default(node.name, gateway.address)


def _lans(plan: Blueprint, site: str, nodes: list[Node], group: Group | None) -> None:
    """A machine on every LAN of a site. Hosts that share a LAN are connected to the same bridge."""
    kind = {"edge": "pc", "datacenter": "server", "region": "server"}[nodes[0].doc.model.kind]
    machines: dict[Prefix, str] = {}
    virtual = [address for segment in group.segments for address in segment.virtual] if group else []
    for node in nodes:
        for dev, lan in node.model.lans.items():
            shared = next((machines[a.network] for a in lan.addresses if a.network in machines), None)
            name = shared or f"{site}-{kind}{len(set(machines.values())) + 1 if machines else ''}"
            if shared is None:
                space = plan.space(name, "workload")
                space.ip += ["link add br0 type bridge", "link set br0 up"]
                taken = {a.value for n in nodes for other in n.model.lans.values() for a in other.addresses}
                taken |= {address.value for address in virtual}
                own = {a.version: _free(a.network, taken) for a in lan.addresses}
                for address in own.values():
                    plan.address(name, "br0", str(address))
                    gateways = (*virtual, *lan.addresses)  # the active gateway, or the first host
                    plan.default(name, next(a.address for a in gateways if address.network.covers(a.host)))
                plan.endpoints.append(Pinger(_title(plan, site), name, {v: a.address for v, a in own.items()}))
                machines |= {a.network: name for a in lan.addresses}
            port = f"p{len(plan.wires)}"
            plan.wire((name, port), (node.name, dev))
            plan.spaces[name].ip.append(f"link set {port} master br0")


def _title(plan: Blueprint, site: str) -> str:
    same = sum(endpoint.network.split(" ")[0] == site for endpoint in plan.endpoints)
    return f"{site} {same + 1}" if same else site


def _free(network: Prefix, taken: set[int]) -> Interface:
    size = network.last - network.first
    value = next(network.first + n for n in (100, *range(1, 99)) if n < size and network.first + n not in taken)
    return Interface(network.version, value, network.length)


def _vpc(plan: Blueprint, fabric: Fabric, nodes: list[Node]) -> None:
    """A machine in a subnet of the VPC, and the VPC's route table: all other traffic goes to the gateway."""
    site = nodes[0].site
    router, name = f"net-{site}", f"{site}-vm"
    doc = nodes[0].doc.model
    underlay = nodes[0].model.underlay.addresses
    if not isinstance(doc, Region) or underlay == "dhcp" or router not in plan.spaces:
        plan.notes.append(f"{site}: no workload, its gateway has no private address in the VPC")
        return
    plan.space(name, "workload")
    plan.wire((router, "vm"), (name, "eth0"))
    taken = {address.network for node in nodes for address in _static(node)}
    own = {}
    for cidr in doc.aws.cidr:
        subnet = _subnet(cidr, taken)
        own[cidr.version] = address_text(subnet.version, subnet.first + 10)
        plan.address(router, "vm", f"{address_text(subnet.version, subnet.first + 1)}/{subnet.length}")
        plan.address(name, "eth0", f"{own[cidr.version]}/{subnet.length}")
        plan.default(name, address_text(subnet.version, subnet.first + 1))
    gateway = {address.version: address.address for address in underlay}
    elsewhere = [p for node in fabric.nodes.values() if node.site != site for p in node.prefixes]
    # Like a manual route table: private networks as a whole, public ones one by one.
    wanted = [*PRIVATE, *(p for p in elsewhere if not any(space.covers(p) for space in PRIVATE))]
    for prefix in wanted:
        if prefix.version in gateway:
            plan.spaces[router].ip.append(f"route add {prefix} via {gateway[prefix.version]}")
    plan.endpoints.append(Pinger(_title(plan, site), name, own))


def _static(node: Node) -> tuple[Interface, ...]:
    addresses = node.model.underlay.addresses
    return () if addresses == "dhcp" else addresses


def _subnet(cidr: Prefix, taken: set[Prefix]) -> Prefix:
    """A subnet of usual size in a VPC's network without a gateway in it: the second one."""
    length = max(cidr.length, 24 if cidr.version == 4 else 64)
    step = 1 << (BITS[cidr.version] - length)
    parts = (Prefix(cidr.version, cidr.first + n * step, length) for n in range(1, 256))
    return next((p for p in parts if cidr.covers(p) and not any(t.covers(p) or p.covers(t) for t in taken)), cidr)


def _client(plan: Blueprint, fabric: Fabric, name: str, number: int) -> None:
    plan.space(name, "client")
    _uplink(plan, name, "eth0", number)
    addresses = {version: address_text(version, value) for version, value in fabric.clients[name].address.items()}
    plan.endpoints.append(Pinger(name, name, addresses))


def _spare(plan: Blueprint, fabric: Fabric) -> None:
    node = next((node for _, node in sorted(fabric.nodes.items()) if node.model.lans), None)
    if node is None:
        return
    name = f"{node.site}-new"
    plan.space(name, "workload")
    plan.wire((name, "eth0"), (node.name, SPARE))
    plan.spare = (node.name, name)
