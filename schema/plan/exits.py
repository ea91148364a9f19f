"""Exits, as the agent has to know them: what to look for, and where it is put."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import StringConstraints

from schema.plan.base import Address, IfName, Model, Prefix, PublicKey, SecretRef
from schema.plan.marks import BEFORE, Marks
from schema.plan.providers import ProviderFacts, ProviderName, named

EXITS = "wg-exits"
"""The device of a host that is a gateway of other hosts' exits."""

NAME = r"^[a-z0-9][a-z0-9-]{0,8}$"
"""An exit's name: short, as its tunnels are wg-NAME, wg-NAME-2, …"""
ExitName = Annotated[str, StringConstraints(pattern=NAME)]


class ExitGateway(Model):
    """A gateway that is written down."""

    name: str
    endpoint: str
    public_key: PublicKey
    addresses: tuple[Prefix, ...]
    dns: tuple[Address, ...] = ()
    country: str = ""


class ExitHealth(Model):
    """When a gateway counts as degraded; see `schema/desired/exits.py`."""

    interval: float
    timeout: float
    window: int
    factor: float | None = None
    """Of the baseline, or"""
    threshold: float | None = None
    """seconds of a round trip."""
    strikes: int
    loss: float
    check: str
    expect: int


class ExitSlot(Model):
    """One of the devices that tunnels of an exit stand on, in turn."""

    dev: IfName
    port: int
    table: int
    """Where what belongs to this tunnel's flows is routed, while flows stay where they are."""


class Exit(Model):
    """A way to the internet: what the agent has to find a gateway for, and where to put it."""

    name: ExitName
    provider: ProviderName
    credentials: SecretRef | None = None
    gateways: tuple[ExitGateway, ...] | None = None
    key: SecretRef | None = None
    """The private key of its tunnels, where its gateways know one; None: the agent makes one."""
    prefer: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    countries: tuple[str, ...] = ()
    use: int
    health: ExitHealth
    hold: float
    cool_down: float
    dns: tuple[Address, ...] | None = None
    """None: the provider's."""
    port_forward: bool = False
    kill_switch: bool = True
    """Whether its traffic is refused without a gateway, which the plan sees to; else it leaves by the underlay."""
    on_switch: Literal["move", "drain"]
    table: int
    slots: tuple[ExitSlot, ...]
    """One more than gateways at once, so that the next tunnel is proven before traffic moves."""
    mtu: int
    lans: tuple[IfName, ...]
    own: bool
    """Whether the host itself takes it."""
    ours: tuple[Prefix, ...]
    """Networks of ours, whose DNS servers are asked as ever."""
    marks: Marks | None = None
    """Of this host's packets and flows; None in a plan from before there was a mask."""

    @property
    def facts(self) -> ProviderFacts:
        """What its provider needs and can."""
        return named(self.provider)

    @property
    def marked(self) -> Marks:
        """The marks that the rest of the plan counts on."""
        return self.marks or BEFORE
