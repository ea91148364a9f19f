"""Which gateways an exit uses, and what to do next. Pure: what happened and the time are told.

    electing ──register──> proving ──answers──> carrying ──strikes──> failed ──its successor is proven──> gone
                              └ no answer: the next one                └ and draining, where flows stay

What carries goes only when its successor has proven itself, so there is no gap between two, and a healthy exit is never
given up for one that may not work. Nothing here ever wants a route to the underlay: without a tunnel there is no route.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from reconciler.loops.exits.cooling import BACKOFF, REMEMBERED, Account, Cooling, Pause
from reconciler.loops.exits.election import candidates, elect, latency, standing
from reconciler.loops.exits.health import Answer, Pulse
from reconciler.loops.exits.providers.base import Gateway, ProviderError, Session
from reconciler.loops.exits.tunnel import Action, Phase, Tunnel, server
from schema.plan import Exit

LIST_LIFE = 6 * 3600.0
"""Seconds after which the provider is asked for its gateways again."""
LIST_AGAIN = 60.0
"""Seconds between two lists where a gateway may not be where the last one says."""
FRESH = 30.0
"""Seconds for which a latency is as good as new."""
ASK_EVERY = 1.0
"""Seconds between two probes of a tunnel that is to prove itself; less where the interval is less."""
PROOF = 15.0
"""Seconds that it has."""
DRAIN = 600.0
"""Seconds after which open flows are not waited for any longer."""
LONGEST_AGAIN = 60.0
"""Seconds between two tries where every gateway has failed: one that works again is not to wait for long."""
RENEW_AGAIN = 60.0
UNTOLD = 120.0
"""Seconds after which an outcome is waited for no longer: a provider may take a minute, after others have."""

UNWANTED = 3
"""The standing of a gateway that the list no longer has, or that may not be taken any more."""


@dataclass(slots=True)
class Policy:
    """One exit."""

    exit: Exit
    gateways: dict[str, Gateway] = field(default_factory=dict)
    latencies: dict[str, float | None] = field(default_factory=dict)
    """Seconds of a round trip outside the tunnels; None where none came back."""
    tunnels: dict[int, Tunnel] = field(default_factory=dict)
    pinned: str | None = None
    trouble: ProviderError | None = None
    """What the provider did last that it should not have done."""
    switches: int = 0
    switched: float | None = None
    """When what carries changed last."""
    _cooling: Cooling = field(default_factory=Cooling)
    _forced: bool = False
    _busy: dict[str, float] = field(default_factory=dict)
    """What is under way, and since when."""
    _listed: float | None = None
    _doubted: bool = False
    """Whether something has failed since that another list may mend."""
    _measured: float | None = None
    _list_pause: Pause = field(default_factory=Pause)
    _account: Account = field(default_factory=Account)
    _again: Pause = field(default_factory=lambda: Pause(longest=LONGEST_AGAIN))
    """Of gateways that failed already or answered no echo, where there are no others."""

    # What is so

    @property
    def carrying(self) -> list[Tunnel]:
        """What new flows take: those that are fit, or all where none is, because nothing better is known."""
        found = self._of("carrying")
        return [tunnel for tunnel in found if not tunnel.pulse.degraded] or found

    def _of(self, phase: Phase) -> list[Tunnel]:
        return [tunnel for _, tunnel in sorted(self.tunnels.items()) if tunnel.phase == phase]

    @property
    def _coming(self) -> Tunnel | None:
        return next((t for t in self.tunnels.values() if t.phase in ("registering", "proving")), None)

    @property
    def _proof(self) -> float:
        return max(PROOF, 2 * self.exit.health.timeout)

    def cooling(self, gateway: str, now: float) -> bool:
        return self._cooling.cools(gateway, now)

    # What happened

    def known(self, gateways: Iterable[Gateway]) -> None:
        """What an earlier list says, until there is a new one."""
        self.gateways = {gateway.id: gateway for gateway in gateways}

    def adopt(self, slot: int, session: Session, baseline: float | None, now: float, ends: float | None = None) -> None:
        """A tunnel that carries traffic already: this process is not the first. No more than are used."""
        if len(self._of("carrying")) < self.exit.use:
            pulse = Pulse(self.exit.health, baseline)
            self.tunnels[slot] = Tunnel(slot, session.gateway, "carrying", pulse, now, session, began=now, ends=ends)

    def discovered(self, gateways: Iterable[Gateway], now: float) -> None:
        self._busy.pop("discover", None)
        before = self.gateways
        self.known(gateways)
        for name, gateway in self.gateways.items():
            if name in before and server(before[name]) != server(gateway):
                # Another server by this name has neither failed nor been measured.
                self._cooling.lift(name)
                self.latencies.pop(name, None)
                self._measured = None
        self._listed, self._list_pause, self.trouble, self._doubted = now, Pause(), None, False

    def not_discovered(self, error: ProviderError, now: float) -> None:
        self._busy.pop("discover", None)
        self.trouble = error
        self._list_pause.fail(now, error.retry_after)

    def measured(self, samples: Mapping[str, Sequence[float | None]], now: float) -> None:
        self._busy.pop("measure", None)
        self._measured = now
        found = {name: latency(times) for name, times in samples.items()}
        self.latencies |= found
        self._doubted = self._doubted or all(seconds is None for seconds in found.values())
        for name in (name for name, seconds in found.items() if seconds is not None):
            self._cooling.answers(name)

    def registered(self, slot: int, session: Session, now: float, ends: float | None = None) -> None:
        """`ends`: when the session does, on the same clock."""
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

    def renewed(self, slot: int, session: Session, now: float, ends: float | None = None) -> None:
        if (tunnel := self.tunnels.get(slot)) and tunnel.gateway.id == session.gateway.id:
            if tunnel.phase == "proving" and session != tunnel.session:
                tunnel.since = now  # it has to prove itself as this one
            tunnel.session, tunnel.renewing, tunnel.renewed = session, False, now
            tunnel.began, tunnel.ends = now, ends
            self.trouble = None

    def not_renewed(self, slot: int, error: ProviderError, now: float) -> None:
        """The tunnel stays as it is: whether it works is for its probes to say."""
        self.trouble = error
        if tunnel := self.tunnels.get(slot):
            tunnel.renewing, tunnel.renewed = False, now

    def probed(self, slot: int, gateway: str, answer: Answer, now: float) -> None:
        tunnel = self.tunnels.get(slot)
        if tunnel is None or tunnel.gateway.id != gateway or tunnel.asked is None:
            return  # of a tunnel that is no longer there
        sent, tunnel.asked = tunnel.asked, None
        settings = self.exit.health
        pause = settings.interval if tunnel.phase == "carrying" else min(settings.interval, ASK_EVERY)
        tunnel.next_probe = max(now, sent + pause)
        if tunnel.phase == "proving":
            if answer.good:
                self._take_over(tunnel, now)
            elif answer.rtt is not None:
                self._fail(tunnel, now)  # somebody else answers for what is asked: waiting does not help
        elif tunnel.phase == "carrying":
            tunnel.pulse.note(answer)
            if tunnel.pulse.degraded:
                self._cooling.fail(gateway, now, self.exit.cool_down)
            elif answer.good:
                self._cooling.forget(now - max(REMEMBERED, self.exit.cool_down))

    def handshakes(self, ages: Mapping[str, float | None]) -> None:
        """Device -> seconds since its last handshake."""
        for slot, tunnel in self.tunnels.items():
            if (dev := self.exit.slots[slot].dev) in ages:
                tunnel.pulse.handshake = ages[dev]

    def drained(self, slot: int) -> None:
        """No flow is left on a tunnel that drains."""
        if (tunnel := self.tunnels.get(slot)) and tunnel.phase == "draining":
            del self.tunnels[slot]

    def next(self) -> None:
        """Somebody wants another gateway than those in use."""
        self._forced = True
        self._at_once()

    def pin(self, gateway: str | None) -> None:
        """Somebody wants this one and no other while it works; None: whichever is best."""
        self.pinned = gateway
        self._forced = gateway is not None and all(one.gateway.id != gateway for one in self.tunnels.values())
        if gateway is not None:
            self._cooling.lift(gateway)
            self._at_once()
            if self.latencies.get(gateway) is None:
                self._measured = None  # it may answer by now

    def _at_once(self) -> None:
        self._again.until = self._account.pause.until = 0.0
        self._cooling.unbar()

    # What to do

    def step(self, now: float) -> list[Action]:
        """What time has brought about, and what is to be done now. Each action is told its outcome once."""
        self._expire(now)
        actions: list[Action] = []
        if self._stale_list(now):
            actions.append(self._start("discover", now))
        actions += self._elect(now)
        actions += self._renew(now)
        for slot, tunnel in sorted(self.tunnels.items()):
            asks = tunnel.phase in ("proving", "carrying") and tunnel.asked is None
            if asks and now >= tunnel.next_probe:
                tunnel.asked = now
                actions.append(Action("probe", slot, tunnel.gateway, tunnel.session))
        return actions

    def _stale_list(self, now: float) -> bool:
        doubted = self._doubted or any(tunnel.pulse.dead for tunnel in self._of("carrying"))
        old = self._listed is None or now - self._listed > (LIST_AGAIN if doubted else LIST_LIFE)
        return old and "discover" not in self._busy and self._list_pause.over(now)

    def _start(self, verb: Literal["discover", "measure"], now: float, gateways: tuple[Gateway, ...] = ()) -> Action:
        self._busy[verb] = now
        return Action(verb, gateways=gateways)

    def _expire(self, now: float) -> None:
        self._busy = {verb: since for verb, since in self._busy.items() if now - since <= UNTOLD}
        for slot, tunnel in list(self.tunnels.items()):
            if tunnel.asked is not None and now - tunnel.asked > UNTOLD:
                self.probed(slot, tunnel.gateway.id, Answer(None), now)
            if tunnel.renewing and now - tunnel.renewed > UNTOLD:
                tunnel.renewing = False
        coming = self._coming
        if coming and now - coming.since > (self._proof if coming.phase == "proving" else UNTOLD):
            self._fail(coming, now)
        for tunnel in self._of("draining"):
            if now - tunnel.since > DRAIN:
                del self.tunnels[tunnel.slot]

    def _wanted(self, now: float) -> tuple[list[Gateway], bool]:
        """Gateways of which one should come: none where what carries is well, and as many as there should be.

        And whether it may be one that answers no echo, which is not worth a try for a better standing only.
        """
        carrying = self._of("carrying")
        used = {tunnel.gateway.id for tunnel in self.tunnels.values() if self._current(tunnel)}
        free = [gateway for gateway in self._candidates() if gateway.id not in used]
        free = [gateway for gateway in free if not self._cooling.barred(gateway.id, now)]
        cool = [gateway for gateway in free if not self.cooling(gateway.id, now)]
        again = free if self._again.over(now) else []
        worst = self._worst()
        if worst is None or len(carrying) < self.exit.use:
            # Better one that failed before than none.
            return cool or ([] if carrying else again), True
        if self._forced or worst.pulse.dead:
            self._forced = self._forced and bool(free)
            return cool or again, True
        better = [gateway for gateway in cool if self._may_replace(worst, gateway, now)]
        return better, worst.pulse.degraded or not self._current(worst)

    def _may_replace(self, worst: Tunnel, gateway: Gateway, now: float) -> bool:
        if self._forced or worst.pulse.dead:
            return True
        if self.switched is not None and now - self.switched < self.exit.hold:
            return False
        return worst.pulse.degraded or standing(self.exit, gateway, self.pinned) < self._standing(worst)

    def _candidates(self) -> list[Gateway]:
        return candidates(self.exit, self.gateways.values())

    def _current(self, tunnel: Tunnel) -> bool:
        """Whether a tunnel leads to a gateway as the list has it, and may go on."""
        now = self.gateways.get(tunnel.gateway.id)
        if tunnel.phase == "draining" or (self._listed is not None and now is None):
            return False
        return now is None or (server(now) == server(tunnel.gateway) and now in candidates(self.exit, [now]))

    def _standing(self, tunnel: Tunnel) -> int:
        return standing(self.exit, tunnel.gateway, self.pinned) if self._current(tunnel) else UNWANTED

    def _worst(self) -> Tunnel | None:
        """The one to be replaced first."""
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
        age = LIST_LIFE if self._measured is None else now - self._measured
        if (wanted or suspicious or lost) and age > FRESH:
            # A strike is reason enough to look around: at the last one the others' latencies are known.
            return self._look_around(now)
        tried = silent and self._again.over(now)
        among = [gateway for gateway in wanted if tried or self.latencies.get(gateway.id) is not None]
        chosen = elect(self.exit, self._cooling.turn(among), self.latencies, self.pinned, silent=tried)
        if chosen is None:
            if lost and all(self.latencies.get(gateway.id) is None for gateway in self._candidates()):
                # What carries goes on, and all are asked again soon: the network may be what is away.
                self._measured = now - max(age, FRESH - BACKOFF)
            elif not lost and not silent:
                for gateway in wanted:
                    self._cooling.rest(gateway.id, now, max(self.exit.cool_down, BACKOFF))
            return []
        if self.latencies.get(chosen.id) is None and age > BACKOFF:
            return self._look_around(now)  # one that does answer may be back
        slot = self._free_slot()
        if slot is None:
            return []
        self.tunnels[slot] = Tunnel(slot, chosen, "registering", Pulse(self.exit.health), now)
        return [Action("register", slot, chosen)]

    def _look_around(self, now: float) -> list[Action]:
        among = tuple(self._candidates())
        return [self._start("measure", now, among)] if among and "measure" not in self._busy else []

    def _free_slot(self) -> int | None:
        """A device for another tunnel; the oldest that drains makes room. None where all carry."""
        for slot in range(len(self.exit.slots)):
            if slot not in self.tunnels:
                return slot
        oldest = min(self._of("draining"), key=lambda tunnel: tunnel.since, default=None)
        return self.tunnels.pop(oldest.slot).slot if oldest else None

    def _fail(self, tunnel: Tunnel, now: float, barred: float | None = None) -> None:
        self._doubted = self._doubted or tunnel.phase == "proving"
        silent = self.latencies.get(tunnel.gateway.id) is None
        if silent or self.cooling(tunnel.gateway.id, now):
            self._again.fail(now)
        seconds = max(self.exit.cool_down, BACKOFF)
        self._cooling.fail(tunnel.gateway.id, now, seconds, barred=barred, silent=silent)
        del self.tunnels[tunnel.slot]

    def _take_over(self, tunnel: Tunnel, now: float) -> None:
        """A proven tunnel carries traffic from now on, in place of the worst where there are enough."""
        before = len(self._of("carrying"))
        worst = self._worst() if before >= self.exit.use else None
        if worst is not None and not self._may_replace(worst, tunnel.gateway, now):
            del self.tunnels[tunnel.slot]  # what it was to replace is well again
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
        """Before a session ends, and where it fell silent: the provider may have forgotten our key."""
        actions = []
        for tunnel in self._of("carrying") + self._of("proving"):
            session = tunnel.session
            if session is None or tunnel.renewing or now - tunnel.renewed < RENEW_AGAIN:
                continue
            # One that is to prove itself may have a session that its provider only remembers.
            late = tunnel.phase == "proving" and now - tunnel.since > self._proof / 2
            if tunnel.old(now) or late or tunnel.pulse.misses:
                tunnel.renewing, tunnel.renewed = True, now
                actions.append(Action("renew", tunnel.slot, tunnel.gateway, session))
        return actions
