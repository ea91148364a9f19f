"""The state of exits as rows for machines. Pure."""

from __future__ import annotations

from typing import Any

from reconciler.loops.exits.election import candidates, standing
from reconciler.loops.exits.forwarding import Forwarding
from reconciler.loops.exits.policy import ExitPolicy
from reconciler.loops.exits.providers.base import ProviderError
from reconciler.loops.exits.tunnel import ExitTunnel
from schema.plan import Exit


def row(
    policy: ExitPolicy, now: float, forwarding: Forwarding | None = None, unprobed: ProviderError | None = None
) -> dict[str, Any]:
    """The row of one exit. Times are in seconds. `unprobed`: the reason why its probes are not sent."""
    return {
        "name": policy.exit.name,
        "provider": policy.exit.provider,
        "kill_switch": policy.exit.kill_switch,
        "use": policy.exit.use,
        "pinned": policy.pinned,
        "switches": policy.switches,
        "gateways": len(policy.directory.gateways),
        "cooling": sum(policy.cooling(gateway, now) for gateway in policy.directory.gateways),
        "tunnels": [_tunnel(policy, tunnel, now) for _, tunnel in sorted(policy.tunnels.items())],
        "trouble": _said(policy.trouble or unprobed),
        "port": forwarding.number if forwarding else None,
        "port_trouble": _said(forwarding.trouble) if forwarding else None,
    }


def broken(exit: Exit, error: ProviderError) -> dict[str, Any]:
    """The row of an exit that cannot be managed."""
    found = {"name": exit.name, "provider": exit.provider, "kill_switch": exit.kill_switch}
    return {**found, "tunnels": [], "trouble": _said(error)}


def _said(error: ProviderError | None) -> dict[str, str] | None:
    return {"reason": error.reason, "message": error.message} if error else None


def _tunnel(policy: ExitPolicy, tunnel: ExitTunnel, now: float) -> dict[str, Any]:
    pulse = tunnel.pulse
    newest = next((rtt for rtt in reversed(pulse.window) if rtt is not None), None)
    return {
        "device": policy.exit.slots[tunnel.slot].dev,
        "gateway": tunnel.gateway.id,
        "phase": tunnel.phase,
        "seconds": now - tunnel.since,
        "endpoint": tunnel.session.endpoint if tunnel.session else None,
        "latency": policy.directory.latencies.get(tunnel.gateway.id),
        "rtt": newest,
        "mean": pulse.mean,
        "baseline": pulse.baseline,
        "limit": pulse.limit,
        "window": list(pulse.window),
        "loss": pulse.loss,
        "strikes": pulse.strikes,
        "allowed": pulse.settings.strikes,
        "fault": pulse.fault,
        "degraded": pulse.degraded,
        "handshake_age": pulse.handshake,
    }


def choices(policy: ExitPolicy, now: float) -> list[dict[str, Any]]:
    """The gateways that an exit may use."""
    used = {tunnel.gateway.id: tunnel.phase for tunnel in policy.tunnels.values()}
    return [
        {
            "exit": policy.exit.name,
            "gateway": gateway.id,
            "country": gateway.country,
            "address": gateway.addresses[0],
            "latency": policy.directory.latencies.get(gateway.id),
            "cooling": policy.cooling(gateway.id, now),
            "standing": standing(policy.exit, gateway, policy.pinned),
            "phase": used.get(gateway.id),
        }
        for gateway in candidates(policy.exit, policy.directory.gateways.values())
    ]
