"""Exits in a plan: what the agent needs to find a gateway and to set up its tunnel."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import StringConstraints

from schema.plan.base import AddressText, KernelIfName, Model, PrefixText, PublicKey, SecretRef
from schema.plan.marks import BEFORE, Marks
from schema.plan.providers import ProviderFacts, ProviderName, named

SITE_EXITS = "wg-exits"
"""The device of a host that is a gateway for exits of other hosts."""

NAME = r"^[a-z0-9][a-z0-9-]{0,8}$"
"""An exit's name. It is short, because its tunnels are wg-NAME, wg-NAME-2, …"""
ExitName = Annotated[str, StringConstraints(pattern=NAME)]


class WrittenGateway(Model):
    """A gateway from YAML (`provider: static`) or a host of this network (`provider: site`)."""

    name: str
    endpoint: str
    public_key: PublicKey
    addresses: tuple[PrefixText, ...]
    dns: tuple[AddressText, ...] = ()
    country: str = ""


class HealthSettings(Model):
    """When a gateway counts as degraded; see `schema/desired/exits.py`."""

    interval: float
    timeout: float
    window: int
    factor: float | None = None
    """Degraded above this multiple of the baseline. Exactly one of `factor` and `threshold` is set."""
    threshold: float | None = None
    """Degraded above this round trip, in seconds."""
    strikes: int
    loss: float
    check: str
    expect: int


class ExitSlot(Model):
    """One of the devices that an exit uses for its tunnels in turn."""

    dev: KernelIfName
    port: int
    table: int
    """The routing table for flows of this tunnel, while flows stay where they are."""


class Exit(Model):
    """An exit: the settings for choosing a gateway, and the devices, tables and marks to use."""

    name: ExitName
    provider: ProviderName
    credentials: SecretRef | None = None
    gateways: tuple[WrittenGateway, ...] | None = None
    key: SecretRef | None = None
    """The private key of the tunnels, if the gateways know one. None: the agent creates a key."""
    prefer: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    countries: tuple[str, ...] = ()
    use: int
    health: HealthSettings
    hold: float
    cool_down: float
    dns: tuple[AddressText, ...] | None = None
    """Addresses of DNS servers. None: the provider's."""
    port_forward: bool = False
    kill_switch: bool = True
    """Whether traffic is blocked without a gateway, by the rest of the plan. Otherwise it leaves by the underlay."""
    on_switch: Literal["move", "drain"]
    table: int
    slots: tuple[ExitSlot, ...]
    """One more than the number of gateways at once, so that a new tunnel is proven before traffic moves to it."""
    mtu: int
    lans: tuple[KernelIfName, ...]
    own: bool
    """Whether the host itself takes this exit."""
    ours: tuple[PrefixText, ...]
    """Our own networks. DNS queries to servers in them are not redirected."""
    marks: Marks | None = None
    """The marks of this host's packets and flows. None in a plan from before marks had a mask."""

    @property
    def facts(self) -> ProviderFacts:
        """The needs and abilities of its provider."""
        return named(self.provider)

    @property
    def marked(self) -> Marks:
        """The marks that the rest of the plan uses."""
        return self.marks or BEFORE
