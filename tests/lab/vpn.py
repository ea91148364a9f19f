"""The exit of a lab's home in the hands of a test: what its agent says, what is seen outside, lines and faults."""

from __future__ import annotations

from typing import Any

from lab.client import ask
from lab.provider.places import GATES, OUTSIDE, OUTSIDE_ADDRESS, Gate
from reconciler.base.control import Unreachable, call
from tests.lab.twin import Twin

HOST, PC = "nas", "home-pc"


def exit_of(twin: Twin) -> dict[str, Any]:
    """As its agent says; without tunnels while none answers. No process is begun for it."""
    try:
        rows = call(str(twin.folder.agent_socket(HOST)), "exits").get("exits", [])
    except Unreachable:
        rows = []
    return dict(rows[0]) if rows else {"tunnels": [], "trouble": None, "port": None}


def tunnels(twin: Twin) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = exit_of(twin)["tunnels"]
    return found


def carrying(twin: Twin) -> list[str]:
    """The gateways that new flows take."""
    return [tunnel["gateway"] for tunnel in tunnels(twin) if tunnel["phase"] == "carrying"]


def trouble_of(twin: Twin) -> str | None:
    """What the agent has to say of the provider."""
    found = exit_of(twin)["trouble"]
    return found["reason"] if found else None


def order(twin: Twin, what: str, gateway: str | None = None) -> None:
    """`next` or `pin`, as `gitwan exits` orders it."""
    assert call(str(twin.folder.agent_socket(HOST)), "exits", order=what, gateway=gateway)["ok"]


def device(twin: Twin) -> str:
    """By which new flows leave."""
    return next(str(tunnel["device"]) for tunnel in tunnels(twin) if tunnel["phase"] == "carrying")


def seen(twin: Twin, space: str = PC, server: str = OUTSIDE_ADDRESS) -> str:
    """The address that a server outside sees; nothing where it is not reached."""
    url = f"http://[{server}]/" if ":" in server else f"http://{server}/"
    _, output, _ = twin.attempt(space, "curl", "-s", "-m", "3", url)
    return output.removeprefix(f"{OUTSIDE} saw ").strip()


def gate(gateway: str) -> Gate:
    return next(one for one in GATES if one.id == gateway)


def carried(twin: Twin) -> bool:
    """Whether the LAN is seen to come from the gateway that the agent names."""
    return seen(twin) in [gate(gateway).address for gateway in carrying(twin)]


def line(twin: Twin, gateway: str, **values: object) -> None:
    """Changes the way to a gateway: seconds one way, the share that is lost, whether it is silent."""
    ask(twin.folder, "line", line=gateway, values=values)


def fault(twin: Twin, at: str, what: str) -> None:
    """Has a server of a provider do something wrong; nothing ends it."""
    ask(twin.folder, "fault", at=at, fault=what)
