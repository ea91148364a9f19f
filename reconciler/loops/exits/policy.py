"""Decides which gateways an exit uses, and what to do next. Pure: callers pass the events and the time.

    electing ──register──> proving ──answers──> carrying ──strikes──> failed ──its successor is proven──> gone
                              └ no answer: the next one                └ and draining, where flows stay

A tunnel in use is removed only after its replacement has answered a probe. So there is no gap between two tunnels, and
a healthy one is never given up for one that may not work. No route to the underlay is ever wanted: no tunnel, no route.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from reconciler.loops.exits.cooling import BACKOFF, REMEMBERED, Account, Cooling, Pause
from reconciler.loops.exits.directory import FRESH, UNTOLD, Directory
from reconciler.loops.exits.election import candidates, elect, standing
from reconciler.loops.exits.health import ProbeResult, Pulse
from reconciler.loops.exits.providers.base import Gateway, ProviderError, Registration
from reconciler.loops.exits.tunnel import Action, ExitTunnel, Phase, server
from schema.plan import Exit

ASK_EVERY = 1.0
"""Maximum seconds between two probes of a tunnel that must prove itself; a shorter interval of the exit applies."""
PROOF = 15.0
"""Seconds for a tunnel to prove itself."""
DRAIN = 600.0
"""Seconds after which a draining tunnel is removed despite open flows."""
LONGEST_AGAIN = 60.0
"""Maximum seconds between two tries if every gateway has failed, so that a recovered one is soon found."""
RENEW_AGAIN = 60.0

UNWANTED = 3
"""The standing of a gateway that is no longer in the list or no longer allowed."""


@dataclass(slots=True)
class ExitPolicy:
    """One exit."""

    exit: Exit
    directory: Directory = field(default_factory=Directory)
    tunnels: dict[int, ExitTunnel] = field(default_factory=dict)
    pinned: str | None = None
    trouble: ProviderError | None = None
    """The provider's last error."""
    switches: int = 0
    switched: float | None = None
    """The time of the last change of the carrying tunnels."""
    _cooling: Cooling = field(default_factory=Cooling)
    _forced: bool = False
    _account: Account = field(default_factory=Account)
    _again: Pause = field(default_factory=lambda: Pause(longest=LONGEST_AGAIN))
    """The pause before gateways that failed or answered no echo are tried again, if there are no others."""

    # State

    @property
    def carrying(self) -> list[ExitTunnel]:
        """The tunnels for new flows: the fit ones, or all if none is fit, because nothing better is known."""
        found = self._of("carrying")
        return [tunnel for tunnel in found if not tunnel.pulse.degraded] or found

    def _of(self, phase: Phase) -> list[ExitTunnel]:
        return [tunnel for _, tunnel in sorted(self.tunnels.items()) if tunnel.phase == phase]

    @property
    def _coming(self) -> ExitTunnel | None:
        return next((t for t in self.tunnels.values() if t.phase in ("registering", "proving")), None)

    @property
    def _proof(self) -> float:
        return max(PROOF, 2 * self.exit.health.timeout)

    def cooling(self, gateway: str, now: float) -> bool:
        return self._cooling.cools(gateway, now)

    # Events

    def adopt(
        self, slot: int, session: Registration, baseline: float | None, now: float, ends: float | None = None
    ) -> None:
        """Adopt a tunnel that carried traffic for an earlier process, unless enough tunnels do already."""
        if len(self._of("carrying")) < self.exit.use:
            pulse = Pulse(self.exit.health, baseline)
            self.tunnels[slot] = ExitTunnel(
                slot, session.gateway, "carrying", pulse, now, session, began=now, ends=ends
            )

    def discovered(self, gateways: Iterable[Gateway], now: float) -> None:
        self.trouble = None
        for name in self.directory.discovered(gateways, now):
            self._cooling.lift(name)  # another server by this name has not failed

    def not_discovered(self, error: ProviderError, now: float) -> None:
        self.trouble = error
        self.directory.not_discovered(error, now)

    def measured(self, samples: Mapping[str, Sequence[float | None]], now: float) -> None:
        for name in self.directory.measured(samples, now):
            self._cooling.answers(name)

    def registered(self, slot: int, session: Registration, now: float, ends: float | None = None) -> None:
        """A gateway accepted our key. `ends`: the end of the session, on the same clock."""
        tunnel = self.tunnels.get(slot)
        if tunnel is None or tunnel.phase != "registering" or tunnel.gateway.id != session.gateway.id:
            return
        tunnel.session, tunnel.phase, tunnel.since = session, "proving", now
        tunnel.began, tunnel.ends, tunnel.next_probe = now, ends, now
        self._account, self.trouble = Account(), None

    def not_registered(self, slot: int, error: ProviderError, now: float) -> None:
        tunnel = self.tunnels.get(slot)
        if tunnel is None or tunnel.phase != "registering":
            return
        self.trouble = error
        if self._account.refused(tunnel.gateway.id, error, now):
            del self.tunnels[slot]
        else:
            self._fail(tunnel, now, error.retry_after)

    def renewed(self, slot: int, session: Registration, now: float, ends: float | None = None) -> None:
        if (tunnel := self.tunnels.get(slot)) and tunnel.gateway.id == session.gateway.id:
            if tunnel.phase == "proving" and session != tunnel.session:
                tunnel.since = now  # it must prove itself with the new session
            tunnel.session, tunnel.renewing, tunnel.renewed = session, False, now
            tunnel.began, tunnel.ends = now, ends
            self.trouble = None

    def not_renewed(self, slot: int, error: ProviderError, now: float) -> None:
        """The tunnel stays; its probes tell whether it works."""
        self.trouble = error
        if tunnel := self.tunnels.get(slot):
            tunnel.renewing, tunnel.renewed = False, now

    def probed(self, slot: int, gateway: str, answer: ProbeResult, now: float) -> None:
        tunnel = self.tunnels.get(slot)
        if tunnel is None or tunnel.gateway.id != gateway or tunnel.asked is None:
            return  # the probed tunnel no longer exists
        sent, tunnel.asked = tunnel.asked, None
        settings = self.exit.health
        pause = settings.interval if tunnel.phase == "carrying" else min(settings.interval, ASK_EVERY)
        tunnel.next_probe = max(now, sent + pause)
        if tunnel.phase == "proving":
            if answer.good:
                self._take_over(tunnel, now)
            elif answer.rtt is not None:
                self._fail(tunnel, now)  # another server answers: waiting does not help
        elif tunnel.phase == "carrying":
            tunnel.pulse.note(answer)
            if tunnel.pulse.degraded:
                self._cooling.fail(gateway, now, self.exit.cool_down)
            elif answer.good:
                self._cooling.forget(now - max(REMEMBERED, self.exit.cool_down))

    def handshakes(self, ages: Mapping[str, float | None]) -> None:
        """Record the seconds since each device's last handshake."""
        for slot, tunnel in self.tunnels.items():
            if (dev := self.exit.slots[slot].dev) in ages:
                tunnel.pulse.handshake = ages[dev]

    def drained(self, slot: int) -> None:
        """Remove a draining tunnel, because no flow is left on it."""
        if (tunnel := self.tunnels.get(slot)) and tunnel.phase == "draining":
            del self.tunnels[slot]

    def next(self) -> None:
        """A person wants other gateways than the current ones."""
        self._forced = True
        self._at_once()

    def pin(self, gateway: str | None) -> None:
        """A person wants this gateway while it works; None: the best one."""
        self.pinned = gateway
        self._forced = gateway is not None and all(one.gateway.id != gateway for one in self.tunnels.values())
        if gateway is not None:
            self._cooling.lift(gateway)
            self._at_once()
            if self._latency(gateway) is None:
                self.directory.measure_again()  # it may answer by now

    def _at_once(self) -> None:
        self._again.until = self._account.pause.until = 0.0
        self._cooling.unbar()

    # Actions

    def step(self, now: float) -> list[Action]:
        """The actions that are due now. Each action gets exactly one outcome."""
        self._expire(now)
        actions = self.directory.discover(now, doubted=any(tunnel.pulse.dead for tunnel in self._of("carrying")))
        actions += self._elect(now)
        actions += self._renew(now)
        for slot, tunnel in sorted(self.tunnels.items()):
            asks = tunnel.phase in ("proving", "carrying") and tunnel.asked is None
            if asks and now >= tunnel.next_probe:
                tunnel.asked = now
                actions.append(Action("probe", slot, tunnel.gateway, tunnel.session))
        return actions

    def _expire(self, now: float) -> None:
        self.directory.expire(now)
        for slot, tunnel in list(self.tunnels.items()):
            if tunnel.asked is not None and now - tunnel.asked > UNTOLD:
                self.probed(slot, tunnel.gateway.id, ProbeResult(None), now)
            if tunnel.renewing and now - tunnel.renewed > UNTOLD:
                tunnel.renewing = False
        coming = self._coming
        if coming and now - coming.since > (self._proof if coming.phase == "proving" else UNTOLD):
            self._fail(coming, now)
        for tunnel in self._of("draining"):
            if now - tunnel.since > DRAIN:
                del self.tunnels[tunnel.slot]

    def _wanted(self, now: float) -> tuple[list[Gateway], bool]:
        """Gateways of which one should be added; none if the carrying tunnels are well and enough.

        And whether a gateway that answers no echo may be tried, which a better standing alone does not justify.
        """
        carrying = self._of("carrying")
        used = {tunnel.gateway.id for tunnel in self.tunnels.values() if self._current(tunnel)}
        free = [gateway for gateway in self._candidates() if gateway.id not in used]
        free = [gateway for gateway in free if not self._cooling.barred(gateway.id, now)]
        cool = [gateway for gateway in free if not self.cooling(gateway.id, now)]
        again = free if self._again.over(now) else []
        worst = self._worst()
        if worst is None or len(carrying) < self.exit.use:
            # A gateway that failed before is better than none.
            return cool or ([] if carrying else again), True
        if self._forced or worst.pulse.dead:
            self._forced = self._forced and bool(free)
            return cool or again, True
        better = [gateway for gateway in cool if self._may_replace(worst, gateway, now)]
        return better, worst.pulse.degraded or not self._current(worst)

    def _may_replace(self, worst: ExitTunnel, gateway: Gateway, now: float) -> bool:
        if self._forced or worst.pulse.dead:
            return True
        if self.switched is not None and now - self.switched < self.exit.hold:
            return False
        return worst.pulse.degraded or standing(self.exit, gateway, self.pinned) < self._standing(worst)

    def _candidates(self) -> list[Gateway]:
        return candidates(self.exit, self.directory.gateways.values())

    def _latency(self, gateway: str) -> float | None:
        return self.directory.latencies.get(gateway)

    def _current(self, tunnel: ExitTunnel) -> bool:
        """Whether a tunnel leads to a gateway as the list has it, and may continue."""
        now = self.directory.gateways.get(tunnel.gateway.id)
        if tunnel.phase == "draining" or self.directory.gone(tunnel.gateway.id):
            return False
        return now is None or (server(now) == server(tunnel.gateway) and now in candidates(self.exit, [now]))

    def _standing(self, tunnel: ExitTunnel) -> int:
        return standing(self.exit, tunnel.gateway, self.pinned) if self._current(tunnel) else UNWANTED

    def _worst(self) -> ExitTunnel | None:
        """The carrying tunnel to replace first."""
        return max(
            self._of("carrying"),
            key=lambda t: (t.pulse.degraded, t.pulse.dead, self._standing(t), -t.since),
            default=None,
        )

    def _elect(self, now: float) -> list[Action]:
        suspicious = any(tunnel.pulse.strikes for tunnel in self._of("carrying"))
        asks = self._coming is None and self._account.pause.over(now)
        lost = asks and all(tunnel.pulse.dead for tunnel in self._of("carrying"))
        wanted, silent = self._wanted(now) if asks else ([], False)
        age = self.directory.age(now)
        if (wanted or suspicious or lost) and age > FRESH:
            # Measure at the first strike, so that the other latencies are known at the last one.
            return self._look_around(now)
        tried = silent and self._again.over(now)
        among = [gateway for gateway in wanted if tried or self._latency(gateway.id) is not None]
        chosen = elect(self.exit, self._cooling.turn(among), self.directory.latencies, self.pinned, silent=tried)
        if chosen is None:
            if lost and all(self._latency(gateway.id) is None for gateway in self._candidates()):
                # Carrying tunnels stay, and all gateways are measured again soon: the network itself may be down.
                self.directory.measure_again(now)
            elif not lost and not silent:
                for gateway in wanted:
                    self._cooling.rest(gateway.id, now, max(self.exit.cool_down, BACKOFF))
            return []
        if self._latency(chosen.id) is None and age > BACKOFF:
            return self._look_around(now)  # one that answers may be back
        slot = self._free_slot()
        if slot is None:
            return []
        self.tunnels[slot] = ExitTunnel(slot, chosen, "registering", Pulse(self.exit.health), now)
        return [Action("register", slot, chosen)]

    def _look_around(self, now: float) -> list[Action]:
        return self.directory.measure(now, tuple(self._candidates()))

    def _free_slot(self) -> int | None:
        """A device for another tunnel; the oldest draining tunnel is removed if necessary. None if all carry
        traffic."""
        for slot in range(len(self.exit.slots)):
            if slot not in self.tunnels:
                return slot
        oldest = min(self._of("draining"), key=lambda tunnel: tunnel.since, default=None)
        return self.tunnels.pop(oldest.slot).slot if oldest else None

    def _fail(self, tunnel: ExitTunnel, now: float, barred: float | None = None) -> None:
        if tunnel.phase == "proving":
            self.directory.doubt()
        silent = self._latency(tunnel.gateway.id) is None
        if silent or self.cooling(tunnel.gateway.id, now):
            self._again.fail(now)
        seconds = max(self.exit.cool_down, BACKOFF)
        self._cooling.fail(tunnel.gateway.id, now, seconds, barred=barred, silent=silent)
        del self.tunnels[tunnel.slot]

    def _take_over(self, tunnel: ExitTunnel, now: float) -> None:
        """Let a proven tunnel carry traffic; it replaces the worst one if there are enough."""
        before = len(self._of("carrying"))
        worst = self._worst() if before >= self.exit.use else None
        if worst is not None and not self._may_replace(worst, tunnel.gateway, now):
            del self.tunnels[tunnel.slot]  # the tunnel that it was to replace is well again
            return
        tunnel.phase, tunnel.since = "carrying", now
        self._again.until, self._again.failures = 0.0, 0
        tunnel.next_probe = now + self.exit.health.interval
        if worst is not None:
            self._forced = False
            self.switches += 1
            self.switched = now
            if self.exit.on_switch == "drain" and not worst.pulse.dead:
                for old in self._of("draining"):
                    del self.tunnels[old.slot]
                worst.phase, worst.since = "draining", now
            else:
                del self.tunnels[worst.slot]

    def _renew(self, now: float) -> list[Action]:
        """Renew sessions that end soon or are silent, because the provider may have forgotten our key."""
        actions = []
        for tunnel in self._of("carrying") + self._of("proving"):
            session = tunnel.session
            if session is None or tunnel.renewing or now - tunnel.renewed < RENEW_AGAIN:
                continue
            # The session of a tunnel that is being proven may exist only in the provider's records.
            late = tunnel.phase == "proving" and now - tunnel.since > self._proof / 2
            if tunnel.old(now) or late or tunnel.pulse.misses:
                tunnel.renewing, tunnel.renewed = True, now
                actions.append(Action("renew", tunnel.slot, tunnel.gateway, session))
        return actions
