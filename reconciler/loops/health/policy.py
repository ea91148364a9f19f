"""Decides when a tunnel is dead, and when it is alive again. Pure: callers pass what was sent, received, and the time.

    new ──answers──> alive ──silent | lossy | too small | no session──> dead ──well for the hold-down──> alive

A new tunnel gets no traffic until it has answered, so that a change never sends flows before the far end has followed.
If no tunnel of a link ever answered a probe (the far end's plan has no probes yet, or a filter drops them), only its
sessions are judged.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from reconciler.kinds.peer import REJECT_AFTER
from schema.plan import Watch

WINDOW = 50
"""The number of probes over which the loss is measured."""
LATE = 2.0
"""Seconds after which an unanswered probe is lost, or three intervals if that is longer."""
FULL_EVERY = 5
"""Every FULL_EVERY-th probe is accompanied by one of full MTU size."""
FULL_MISSES = 5
"""This many consecutive lost full-size probes, while small ones are answered, mean that packets are too big."""
WELL = 3
"""A new tunnel needs this many consecutive answers."""
RELAPSES = 5
"""The hold-down stops growing after this many relapses, at 32 times its length."""
FORGIVEN = 16.0
"""A tunnel's relapses are forgotten after it was alive for this many hold-downs."""
DeadReason = Literal["", "New", "Silent", "Lossy", "PacketTooBig", "NoSession"]


@dataclass(frozen=True, slots=True)
class Ask:
    """A probe to send now."""

    dev: str
    source: str
    target: str
    sequence: int
    size: int | None
    """Bytes of the whole packet; None for a small one."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The findings about one tunnel."""

    link: str
    dev: str
    alive: bool
    reason: DeadReason
    text: str
    """The reason why it is not alive, for people."""
    rtt: float | None
    """The last round trip, in seconds."""
    loss: float
    """The share of recent probes that were lost."""


@dataclass(slots=True)
class _Sent:
    time: float
    full: bool


@dataclass(slots=True)
class _Tunnel:
    """The memory about one tunnel."""

    alive: bool
    new: bool = False
    sequence: int = 0
    open: dict[int, _Sent] = field(default_factory=dict)
    """Sequence -> a probe without an answer so far."""
    missed: deque[float] = field(default_factory=deque)
    """The send times of the small probes after the last answered one."""
    lost: deque[bool] = field(default_factory=lambda: deque(maxlen=WINDOW))
    """Whether each of the last small probes was lost."""
    heard: bool = False
    """Whether anything was ever received."""
    answers: int = 0
    """Consecutive answers."""
    full_misses: int = 0
    rtt: float | None = None
    slowest: float = LATE
    """The longest recent round trip; older ones count less and less. Before the first answer it is LATE."""
    handshake: float | None = None
    """Seconds since the last handshake at the last reading; None if there was none."""
    well_since: float | None = None
    changed: float = 0.0
    relapses: int = 0
    reason: DeadReason = ""
    turn: int = 0

    def send(self, now: float, full: bool) -> int:
        """Record a probe sent now. Returns its sequence number."""
        self.sequence = (self.sequence + 1) & 0xFFFF
        self.open[self.sequence] = _Sent(now, full)
        if not full:
            self.missed.append(now)
        return self.sequence

    @property
    def loss(self) -> float:
        return sum(self.lost) / len(self.lost) if self.lost else 0.0


class HealthPolicy:
    """The tunnels of every watched link of one host."""

    def __init__(self) -> None:
        self._watches: dict[str, Watch] = {}
        self._tunnels: dict[str, _Tunnel] = {}
        self._next: dict[str, float] = {}
        self._speaking: set[str] = set()
        """Links with a tunnel that has answered a probe."""

    def follow(self, watches: Iterable[Watch], standing: frozenset[str], out: frozenset[str], now: float) -> None:
        """Set the watched links.

        Tunnels in `standing` carry traffic already and count as alive. Tunnels in `out` were removed by the last
        prober: they count as dead, and their hold-down begins now.
        """
        self._watches = {watch.name: watch for watch in watches}
        wanted = {tunnel.dev for watch in self._watches.values() for tunnel in watch.tunnels}
        for dev in wanted - self._tunnels.keys():
            if dev in standing:
                self._tunnels[dev] = _Tunnel(alive=True)
            elif dev in out:
                self._tunnels[dev] = _Tunnel(alive=False, reason="Silent", relapses=1, changed=now)
            else:
                self._tunnels[dev] = _Tunnel(alive=False, new=True)
        self._tunnels = {dev: tunnel for dev, tunnel in self._tunnels.items() if dev in wanted}
        self._speaking &= self._watches.keys()
        self._next = {name: self._next.get(name, now) for name in self._watches}

    @property
    def devices(self) -> Iterable[str]:
        return self._tunnels.keys()

    @property
    def reasons(self) -> list[tuple[str, DeadReason]]:
        """The reason for each tunnel that is not alive."""
        return [(dev, tunnel.reason) for dev, tunnel in self._tunnels.items() if not tunnel.alive]

    @property
    def alive(self) -> frozenset[str]:
        """The live tunnels at the last judgement."""
        return frozenset(dev for dev, tunnel in self._tunnels.items() if tunnel.alive)

    def due(self, now: float) -> float | None:
        """The time of the next probe or of a tunnel's death by silence; None without tunnels."""
        silent = (
            _silent_at(state, watch)
            for watch in self._watches.values()
            for tunnel in watch.tunnels
            if (state := self._tunnels[tunnel.dev]).alive
        )
        times = [*self._next.values(), *(time for time in silent if time is not None and time > now)]
        return min(times, default=None)

    def probes(self, now: float) -> list[Ask]:
        """The probes to send now."""
        asks: list[Ask] = []
        for name, watch in self._watches.items():
            if self._next[name] > now:
                continue
            # After a pause of the whole process, the probes that were not sent are skipped, not sent in a burst.
            self._next[name] = max(self._next[name] + watch.interval, now)
            for tunnel in watch.tunnels:
                state = self._tunnels[tunnel.dev]
                state.turn = (state.turn + 1) % FULL_EVERY
                for full in (False, True) if state.turn == 0 else (False,):
                    sequence = state.send(now, full)
                    size = watch.size if full else None
                    asks.append(Ask(tunnel.dev, watch.source, watch.target, sequence, size))
        return asks

    def answered(self, dev: str, sequence: int, now: float) -> None:
        """Record an answer. An answer that is late or a copy is ignored."""
        tunnel = self._tunnels.get(dev)
        sent = tunnel.open.pop(sequence, None) if tunnel else None
        if tunnel is None or sent is None:
            return
        if sent.full:
            tunnel.full_misses = 0
            return
        if not tunnel.heard or tunnel.reason in ("Silent", "New"):
            # Losses during the silence say nothing about the present.
            tunnel.open = {number: one for number, one in tunnel.open.items() if one.time > sent.time}
            tunnel.lost.clear()
            tunnel.full_misses = 0
        while tunnel.missed and tunnel.missed[0] <= sent.time:
            tunnel.missed.popleft()
        tunnel.rtt = now - sent.time
        tunnel.slowest = max(tunnel.rtt, 0.9 * tunnel.slowest) if tunnel.heard else tunnel.rtt
        tunnel.heard = True
        tunnel.answers += 1
        tunnel.lost.append(False)

    def handshakes(self, ages: Mapping[str, float | None]) -> None:
        """Record the seconds since each device's last handshake, as just read."""
        for dev, age in ages.items():
            if dev in self._tunnels:
                self._tunnels[dev].handshake = age

    def judge(self, now: float) -> frozenset[str]:
        """Judge every tunnel. Returns those that are alive."""
        for watch in self._watches.values():
            states = [self._tunnels[tunnel.dev] for tunnel in watch.tunnels]
            for state in states:
                _expire(state, watch, now)
            speaks = any(state.heard for state in states)
            if speaks and watch.name not in self._speaking:
                self._speaking.add(watch.name)
                for state in states:
                    state.missed.clear()  # the far end has only now begun to answer
            for state in states:
                _judge(state, watch, speaks, now)
            if not watch.backed and not any(state.alive for state in states):
                # The hold-down applies if something better exists, and grows for tunnels that fail alone. A far end
                # that restarts fails all its tunnels at once, which is no relapse of any of them.
                for state in states:
                    state.relapses = min(state.relapses, 1)
                    if state.well_since is not None:
                        _revive(state, now)
        return self.alive

    def verdicts(self) -> list[Verdict]:
        """The findings about every tunnel, in the order of the plan."""
        found = []
        for watch in self._watches.values():
            for tunnel in watch.tunnels:
                state = self._tunnels[tunnel.dev]
                text = "" if state.alive else _text(state, watch)
                found.append(Verdict(watch.name, tunnel.dev, state.alive, state.reason, text, state.rtt, state.loss))
        return found


def _expire(tunnel: _Tunnel, watch: Watch, now: float) -> None:
    """Count probes that are too old as lost."""
    limit = now - max(LATE, 3 * watch.interval)
    for sequence in [sequence for sequence, sent in tunnel.open.items() if sent.time <= limit]:
        if tunnel.open.pop(sequence).full:
            tunnel.full_misses += 1
        else:
            tunnel.lost.append(True)
            tunnel.answers = 0


def _judge(tunnel: _Tunnel, watch: Watch, speaks: bool, now: float) -> None:
    reason = _fault(tunnel, watch, speaks, now)
    if reason:
        if tunnel.alive:
            if now - tunnel.changed > FORGIVEN * watch.hold:
                tunnel.relapses = 0
            tunnel.alive, tunnel.changed = False, now
            tunnel.relapses += 1
        tunnel.reason, tunnel.well_since = reason, None
        return
    if tunnel.alive:
        return
    if tunnel.well_since is None:
        tunnel.well_since = now
    if tunnel.new or now - tunnel.well_since >= _hold(tunnel, watch):
        _revive(tunnel, now)


def _revive(tunnel: _Tunnel, now: float) -> None:
    tunnel.alive, tunnel.new, tunnel.reason, tunnel.changed = True, False, "", now


def _fault(tunnel: _Tunnel, watch: Watch, speaks: bool, now: float) -> DeadReason:
    """The fault that a tunnel has now."""
    silent = _silent(tunnel, watch, now)
    if not speaks:
        # No tunnel of this link ever answered a probe: only the session can be judged.
        if tunnel.handshake is not None and tunnel.handshake < REJECT_AFTER:
            return "New" if tunnel.new and not silent else ""
        return "NoSession" if silent or not tunnel.alive else ""
    if silent:
        return "New" if tunnel.new else "Silent"
    if not tunnel.alive and tunnel.well_since is None and tunnel.answers < WELL:
        return "New" if tunnel.new else tunnel.reason or "Silent"
    if len(tunnel.lost) >= WINDOW // 2 and tunnel.loss > (watch.loss if tunnel.alive else watch.loss / 2):
        return "Lossy"
    if tunnel.full_misses >= FULL_MISSES:
        return "PacketTooBig"
    return ""


def _silent(tunnel: _Tunnel, watch: Watch, now: float) -> bool:
    """Whether enough probes are unanswered for longer than answers take.

    This counts probes, not seconds: if this process had no time to send any, none is missing.
    """
    at = _silent_at(tunnel, watch)
    return at is not None and now >= at


def _silent_at(tunnel: _Tunnel, watch: Watch) -> float | None:
    """The time at which a tunnel is silent for too long if no answer comes; None if too few probes are unanswered."""
    if len(tunnel.missed) < watch.misses:
        return None
    return tunnel.missed[watch.misses - 1] + watch.interval / 4 + tunnel.slowest


def _hold(tunnel: _Tunnel, watch: Watch) -> float:
    """The hold-down in seconds, doubled after each relapse (as RFC 2439 damps routes, with a simpler penalty)."""
    return float(watch.hold * 2 ** min(max(tunnel.relapses - 1, 0), RELAPSES))


def _text(tunnel: _Tunnel, watch: Watch) -> str:
    match tunnel.reason:
        case "Silent":
            text = "no answer through it"
        case "Lossy":
            text = f"{tunnel.loss:.0%} of the probes are lost, {watch.loss:.0%} may be"
        case "PacketTooBig":
            text = f"packets of {watch.size} bytes do not pass, smaller ones do: write a smaller `mtu:` for the link"
        case "NoSession":
            text = "no session: the far end may not have it yet"
        case "New":
            text = "waits for its first answers"
        case _:
            text = ""
    if tunnel.well_since is not None:
        text += f"; well again, used after {_hold(tunnel, watch):g} s"
    return text
