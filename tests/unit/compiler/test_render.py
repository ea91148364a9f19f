"""Every kind has a native form; what one looks like stands in tests/golden, that tools take it in tests/contract."""

from __future__ import annotations

import pytest

from compiler.render import NATIVE, render
from schema.plan import (
    RESOURCES,
    Address,
    Firewall,
    HostPlan,
    Link,
    Nexthop,
    Peer,
    Resource,
    Route,
    Rule,
    SecretRef,
    Service,
    Sysctl,
    Wireguard,
)

KEY = "pKDfcOunqO0Wh9DaeO374yWTYZ1pmFloPkjsMHqAdJ0="
DEVICE = Wireguard(dev="wg0", private_key=SecretRef(secret="private-key", fingerprint=KEY), listen_port=51820)
SAMPLES: dict[str, tuple[Resource, str]] = {
    "firewall": (
        Firewall(family="inet", table="filter", chain="GITWAN-INPUT", hook="INPUT", rules=("-i x9 -j ACCEPT",)),
        "-i x9 -j ACCEPT",
    ),
    "link": (Link(name="br9", type="bridge"), "link add br9 type bridge"),
    "sysctl": (Sysctl(name="net/ipv4/ip_forward", value="1"), "net/ipv4/ip_forward"),
    "wireguard": (DEVICE, "ListenPort = 51820"),
    "address": (Address(dev="lan9", address="10.9.0.1/24"), "address add 10.9.0.1/24 dev lan9"),
    "peer": (Peer(dev="wg0", public_key=KEY, allowed_ips=("10.9.0.0/16",)), "AllowedIPs = 10.9.0.0/16"),
    "nexthop": (Nexthop(id=9, family="inet", dev="wg0"), "nexthop add id 9 dev wg0"),
    "route": (Route(dst="10.9.0.0/16", dev="wg0"), "route add 10.9.0.0/16 dev wg0"),
    "rule": (Rule(family="inet", priority=9, table=9, fwmark=0x55, fwmask=0xFF), "fwmark 0x55/0xff priority 9"),
    "service": (Service(name="radvd", config="interface lan9 { };\n"), "interface lan9 { };"),
}
"""Of each kind a resource, and words of its native form."""


@pytest.mark.parametrize("kind", RESOURCES)
def test_every_kind_is_written(kind: str) -> None:
    resource, words = SAMPLES[kind]
    assert resource.kind == kind
    # A peer stands in the file of its device.
    with_it = HostPlan.of("a", [resource] if kind == "wireguard" else [resource, DEVICE])
    without = HostPlan.of("a", [] if kind == "wireguard" else [DEVICE])
    texts = render(with_it)
    assert any(words in text for text in texts.values()), texts
    assert not any(words in text for text in render(without).values())


def test_a_kind_without_a_native_form_is_named() -> None:
    without = {kind: write for kind, write in NATIVE.items() if kind != "sysctl"}
    with pytest.raises(LookupError, match="the kind sysctl has no native form"):
        render(HostPlan.of("a", [SAMPLES["sysctl"][0]]), without)
