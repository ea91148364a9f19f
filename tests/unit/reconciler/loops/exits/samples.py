"""An exit with gateways at different distances."""

from __future__ import annotations

from typing import Any

from reconciler.loops.exits.providers.base import Gateway, Registration
from schema.plan import Exit, ExitSlot, HealthSettings
from schema.plan.marks import DEFAULT

KEY = "pKDfcOunqO0Wh9DaeO374yWTYZ1pmFloPkjsMHqAdJ0="


def health(**changes: Any) -> HealthSettings:
    values: dict[str, Any] = {
        "interval": 10.0,
        "timeout": 10.0,
        "window": 10,
        "factor": 10.0,
        "strikes": 3,
        "loss": 0.5,
        "check": "http://192.0.2.80/generate_204",
        "expect": 204,
    }
    return HealthSettings(**(values | changes))


def an_exit(use: int = 1, **changes: Any) -> Exit:
    values: dict[str, Any] = {
        "name": "pia",
        "provider": "pia",
        "use": use,
        "health": health(),
        "hold": 60.0,
        "cool_down": 300.0,
        "on_switch": "move",
        "table": 59989,
        "slots": tuple(ExitSlot(dev=f"wg-pia-{k + 1}", port=5000 + k, table=60000 + k) for k in range(use + 1)),
        "mtu": 1420,
        "lans": ("lan0",),
        "own": True,
        "ours": ("192.168.10.0/24", "fd00:192::/64"),
        "marks": DEFAULT,
    }
    return Exit(**(values | changes))


def gateway(id: str, n: int = 1, **changes: Any) -> Gateway:
    region = id.split("/")[0]
    values: dict[str, Any] = {"country": "gb", "addresses": (f"198.51.100.{n}",), "port": 1337}
    return Gateway(id=id, region=region, name=id, **(values | changes))


def session(of: Gateway, *addresses: str) -> Registration:
    return Registration(of, KEY, of.endpoint, addresses or ("10.64.0.2/32",), ("10.64.0.1",))
