"""A world of gateways for the policy: carries its actions out, and lets time pass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from reconciler.loops.exits.health import ProbeResult
from reconciler.loops.exits.policy import ExitPolicy
from reconciler.loops.exits.providers.base import Gateway, ProviderError
from reconciler.loops.exits.tunnel import Action
from schema.plan import Exit
from tests.unit.reconciler.loops.exits.samples import session

STEP = 0.5


@dataclass
class World:
    """Answers what a policy asks. `rtt` is what a probe through a gateway says; nothing where it is away.

    Who is away answers no echo either, unless `echoes` says otherwise: a proof is by the probe alone.
    """

    exit: Exit
    gateways: list[Gateway]
    distance: dict[str, float] = field(default_factory=dict)
    rtt: dict[str, float | None] = field(default_factory=dict)
    portals: set[str] = field(default_factory=set)
    refuse: dict[str, ProviderError] = field(default_factory=dict)
    echoes: dict[str, bool] = field(default_factory=dict)
    at: dict[str, str] = field(default_factory=dict)
    """Where a gateway is, if that is not where an older list says."""
    forgotten: bool = False
    """The provider has forgotten our key: nothing passes any tunnel until it is told again."""
    lost: set[str] = field(default_factory=set)
    """What is to be done and never told of again."""
    no_list: ProviderError | None = None
    now: float = 1000.0
    probes: dict[str, int] = field(default_factory=dict)
    history: list[tuple[float, tuple[str, ...]]] = field(default_factory=list)
    """When what carries changed, and to what."""
    deaths: list[float] = field(default_factory=list)
    verbs: list[str] = field(default_factory=list)
    tried: list[str] = field(default_factory=list)
    """Gateways that were registered with, in turn."""

    def __post_init__(self) -> None:
        self.policy = ExitPolicy(self.exit)
        for n, one in enumerate(self.gateways, 1):
            self.distance.setdefault(one.id, 0.01 * n)
            self.rtt.setdefault(one.id, 0.02 * n)
        self._later: list[tuple[float, Callable[[], None]]] = []

    @property
    def carrying(self) -> tuple[str, ...]:
        return tuple(tunnel.gateway.id for tunnel in self.policy.carrying)

    def run(self, seconds: float) -> None:
        until = self.now + seconds
        while self.now < until:
            self.tick()

    def tick(self) -> None:
        for action in self.policy.step(self.now):
            self.verbs.append(action.verb)
            if action.verb == "register" and action.gateway:
                self.tried.append(action.gateway.id)
            if action.verb not in self.lost:
                self._carry_out(action)
        self.now += STEP
        due = [event for at, event in self._later if at <= self.now]
        self._later = [(at, event) for at, event in self._later if at > self.now]
        for event in due:
            event()
        if not self.history or self.history[-1][1] != self.carrying:
            self.history.append((self.now, self.carrying))

    def _carry_out(self, action: Action) -> None:
        policy, gateway = self.policy, action.gateway
        match action.verb:
            case "discover":
                if self.no_list:
                    policy.not_discovered(self.no_list, self.now)
                else:
                    policy.discovered(self.gateways, self.now)
            case "measure":
                policy.measured({g.id: self._samples(g) for g in action.gateways}, self.now)
            case "register" | "renew":
                assert gateway is not None
                error = self.refuse.get(gateway.id)
                if action.verb == "register":
                    if error:
                        policy.not_registered(action.slot, error, self.now)
                    else:
                        policy.registered(action.slot, session(gateway), self.now)
                elif error:
                    policy.not_renewed(action.slot, error, self.now)
                else:
                    self.forgotten = False
                    policy.renewed(action.slot, session(gateway), self.now)
            case "probe":
                assert gateway is not None
                self._probe(action.slot, gateway)

    def _there(self, gateway: Gateway) -> bool:
        return self.at.get(gateway.id, gateway.addresses[0]) == gateway.addresses[0]

    def _samples(self, gateway: Gateway) -> list[float | None]:
        answers = self.echoes.get(gateway.id, self.rtt[gateway.id] is not None) and self._there(gateway)
        return [self.distance[gateway.id] if answers else None] * 3

    def _probe(self, slot: int, to: Gateway) -> None:
        gateway = to.id
        self.probes[gateway] = self.probes.get(gateway, 0) + 1
        rtt, timeout = self.rtt[gateway], self.exit.health.timeout
        lost = rtt is None or rtt > timeout or self.forgotten or not self._there(to)
        answer = ProbeResult(None) if lost else ProbeResult(rtt, gateway not in self.portals)
        wait = timeout if lost or rtt is None else rtt
        self._later.append((self.now + wait, lambda: self.policy.probed(slot, gateway, answer, self.now)))
