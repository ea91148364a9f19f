"""`gitwan exits`: which gateways there are, which one carries, and choosing by hand."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from reconciler.base.control import Unreachable, call
from reconciler.base.errors import Stalled
from reconciler.report.terminal import AsJson, ConfigFile, fail, settings_of
from reconciler.state.config import DEFAULT_FILE, AgentConfig

ExitOption = Annotated[
    str | None, typer.Option("--exit", help="One exit, where there are several.", show_default="all")
]


def make_app() -> typer.Typer:
    """The command group."""
    app = typer.Typer(no_args_is_help=True, help="Exits: VPN gateways to the internet, and which of them is used.")
    _add_shows(app)
    _add_choices(app)
    app.command()(key)
    return app


def _add_shows(app: typer.Typer) -> None:
    @app.command("list")
    def list_(config: ConfigFile = DEFAULT_FILE, exit: ExitOption = None, as_json: AsJson = False) -> None:
        """The gateways that may be taken, the nearest first.

        Example: gitwan exits list --exit pia
        """
        found = _ask(settings_of(config), exit)
        if as_json:
            typer.echo(json.dumps(found["gateways"], indent=1))
            return
        for one in found["gateways"]:
            typer.echo(_line(one))
        if not found["gateways"]:
            typer.echo("no gateways are known yet")

    @app.command()
    def status(config: ConfigFile = DEFAULT_FILE, as_json: AsJson = False) -> None:
        """Which gateways carry traffic, and how well; exit code 1 where one that should is missing."""
        from reconciler.loops.exits.status import conclude, lines

        rows = _ask(settings_of(config), None)["exits"]
        typer.echo(json.dumps(rows, indent=1) if as_json else "\n".join(lines(rows)) or "this host has no exits")
        condition = conclude(rows)
        raise typer.Exit(0 if condition is None or condition.status == "True" else 1)


def _add_choices(app: typer.Typer) -> None:
    @app.command("next")
    def next_(config: ConfigFile = DEFAULT_FILE, exit: ExitOption = None, as_json: AsJson = False) -> None:
        """Choose another gateway than the one in use. Traffic moves when that one has proven itself."""
        _show(_ask(settings_of(config), exit, order="next"), as_json)

    @app.command()
    def pin(
        gateway: Annotated[str | None, typer.Argument(help="As `gitwan exits list` names it.")] = None,
        none: Annotated[bool, typer.Option("--none", help="Whichever is best, again.")] = False,
        config: ConfigFile = DEFAULT_FILE,
        exit: ExitOption = None,
        as_json: AsJson = False,
    ) -> None:
        """Use one gateway as long as it works, over restarts too.

        Example: gitwan exits pin uk/london401
        """
        if (gateway is None) != none:
            fail("name a gateway, or write --none")
        _show(_ask(settings_of(config), exit, order="pin", gateway=gateway), as_json)


def key(
    name: Annotated[str, typer.Argument(help="The exit.")],
    new: Annotated[bool, typer.Option("--new", help="For an exit that the plan does not have yet.")] = False,
    config: ConfigFile = DEFAULT_FILE,
) -> None:
    """Print an exit's public key, which the gateways of `static` have to know; made where there is none.

    Before this host's first plan nobody knows its exits, so a key is made for any name, with a warning.
    """
    from reconciler.loops.exits.memory import Memory

    settings = settings_of(config)
    _check(settings, name, new)
    try:
        typer.echo(Memory(settings.state, name).public_key())
    except OSError as error:
        fail(str(error))


def _check(settings: AgentConfig, name: str, new: bool) -> None:
    """Ends the program where there is no exit of this name, and none is to come."""
    from reconciler.loops.exits.memory import is_name

    if not is_name(name):
        fail(f"{name!r} is no name of an exit: it has at most 9 lower-case letters, digits and hyphens")
    there = _exits(settings)
    if there is None:
        text = f"warning: this host has no plan yet, so nobody knows whether there will be an exit {name}"
        typer.echo(text, err=True)
    elif name not in there and not new:
        known = f"but {', '.join(there)}" if there else "and no other"
        fail(f"there is no exit {name}, {known}; for one that the plan does not have yet write --new")


def _exits(settings: AgentConfig) -> list[str] | None:
    """The exits of the plan in force; None where there is none that can be read."""
    from reconciler.state.store import Store

    try:
        plan = Store(settings.state).plan_in_force()
    except (Stalled, OSError):
        return None
    return sorted(exit.name for exit in plan.runtime.exits or ()) if plan else None


def _line(one: dict[str, Any]) -> str:
    from reconciler.loops.exits.status import span

    mark = {"carrying": "*", "draining": "-", "proving": "?", "registering": "?"}.get(one["phase"] or "", " ")
    words = ["pinned"] if one["standing"] == 0 else ["preferred"] if one["standing"] == 1 else []
    words += ["cools down"] if one["cooling"] else []
    near = "-" if one["latency"] is None else span(one["latency"])
    columns = f"{mark} {one['exit']:<9}  {one['gateway']:<28}  {one['country'] or '-':<2}  {near:>8}"
    return f"{columns}  {', '.join(words)}".rstrip()


def _ask(settings: AgentConfig, exit: str | None, order: str = "", **words: object) -> dict[str, Any]:
    try:
        found = call(str(settings.socket), "exits", timeout=30.0, exit=exit, order=order, **words)
    except Unreachable as error:
        fail(str(error))
    if not found["ok"]:
        fail(str(found["error"]))
    return found


def _show(found: dict[str, Any], as_json: bool) -> None:
    from reconciler.loops.exits.status import lines

    typer.echo(json.dumps(found["exits"], indent=1) if as_json else "\n".join(lines(found["exits"])))
