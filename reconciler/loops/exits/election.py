"""Elects the best gateway. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from statistics import median

from reconciler.loops.exits.providers.base import Gateway
from schema.plan import Exit

SAMPLES = 3
"""A latency is the median of this many round trips."""
TIE, LEAST_TIE = 0.1, 0.002
"""Latencies within this share of the best one, or within this many seconds, are equal; then the weight decides."""


def candidates(exit: Exit, gateways: Iterable[Gateway]) -> list[Gateway]:
    """The gateways that the exit's settings allow."""
    return [
        gateway
        for gateway in gateways
        if not named(gateway, exit.ignore)
        and (not exit.countries or gateway.country in exit.countries)
        and (not exit.port_forward or gateway.port_forward)
    ]


def named(gateway: Gateway, words: Collection[str]) -> bool:
    return bool({gateway.id, gateway.region, gateway.name}.intersection(words))


def latency(samples: Sequence[float | None]) -> float | None:
    """The median of the answered samples, in seconds; None if most were not answered."""
    answered = [sample for sample in samples if sample is not None]
    return median(answered) if 2 * len(answered) > len(samples) else None


def standing(exit: Exit, gateway: Gateway, pinned: str | None) -> int:
    """The rank of a gateway: 0 if a person chose it, 1 if preferred, 2 otherwise. It outweighs any latency."""
    if gateway.id == pinned:
        return 0
    return 1 if named(gateway, exit.prefer) else 2


def elect(
    exit: Exit,
    gateways: Iterable[Gateway],
    latencies: Mapping[str, float | None],
    pinned: str | None = None,
    *,
    silent: bool = False,
) -> Gateway | None:
    """The best gateway that answered: by standing, then latency; of equals, the one with the largest weight.

    `silent`: also elect one that did not answer, because a server may ignore echoes and still carry a tunnel; a pinned
    one comes first.
    """
    gateways = list(gateways)
    there = [(gateway, seconds) for gateway in gateways if (seconds := latencies.get(gateway.id)) is not None]
    if silent and gateways and (not there or pinned in {gateway.id for gateway in gateways}):
        return min(gateways, key=lambda one: (standing(exit, one, pinned), -one.weight, one.id))
    if not there:
        return None
    best = min(standing(exit, gateway, pinned) for gateway, _ in there)
    there = [(gateway, seconds) for gateway, seconds in there if standing(exit, gateway, pinned) == best]
    nearest = min(seconds for _, seconds in there)
    limit = nearest + max(LEAST_TIE, TIE * nearest)
    alike = [(gateway, seconds) for gateway, seconds in there if seconds <= limit]
    return min(alike, key=lambda pair: (-pair[0].weight, pair[1], pair[0].id))[0]
