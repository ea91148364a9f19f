"""`gitwan agent`: run the agent, and talk to the one that runs.

Exit codes: 0 all is well, 1 any error, 2 where `--dry-run` finds something to change. What is heavy is imported where
it is used: `notify` has to be quick, and so has `run --once`.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from reconciler.base.control import Unreachable, call
from reconciler.base.control import notify as tell
from reconciler.cli import running
from reconciler.report.terminal import AsJson, ConfigFile, fail, settings_of, warn

if TYPE_CHECKING:
    from reconciler.state.config import AgentConfig
    from reconciler.state.store import Store

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do it, rather than show what would be done.")]
DEFAULT = Path("/etc/gitwan/agent.yaml")


def make_app(compile_command: Sequence[str]) -> typer.Typer:
    """The command group. `compile_command` is the program that compiles a commit (`sources/compile.py`)."""
    app = typer.Typer(
        help="Run the agent of this host, and talk to the one that runs.", no_args_is_help=True, rich_markup_mode="rich"
    )
    _add_run(app, compile_command)
    _add_talk(app)
    _add_accept(app)
    _add_suspend(app)
    _add_ownership(app, compile_command)
    return app


def _add_run(app: typer.Typer, compile_command: Sequence[str]) -> None:
    @app.command()
    def run(
        config: ConfigFile = DEFAULT,
        once: Annotated[bool, typer.Option("--once", help="One cycle, then end.")] = False,
        dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would change; change nothing.")] = False,
        as_json: AsJson = False,
    ) -> None:
        """Pull, compare and converge, until told to stop.

        gitwan agent run --dry-run      # what would change? exit code 2 if anything
        gitwan agent run --once         # from cron, or to see that it works
        """
        settings = settings_of(config)
        if dry_run:
            raise typer.Exit(running.dry_run(settings, compile_command, as_json))
        if once:
            raise typer.Exit(running.once(running.locked(settings, compile_command), as_json))
        running.forever(settings, compile_command)

    @app.command(hidden=True)
    def restore(config: ConfigFile = DEFAULT, because: Annotated[str, typer.Option()] = "") -> None:
        """Bring back the last confirmed plan, and end; the agent's parent runs it."""
        host = running.locked(settings_of(config), compile_command)
        raise typer.Exit(1 if host.restore(because).error else 0)


def _add_talk(app: typer.Typer) -> None:
    @app.command()
    def status(config: ConfigFile = DEFAULT, as_json: AsJson = False) -> None:
        """Show how this host is. Exit code 1 where a condition is not true."""
        from reconciler.process import status as statuses

        found = _status(settings_of(config))
        typer.echo(json.dumps(found, indent=1) if as_json else statuses.render(found, time.time()))
        raise typer.Exit(0 if statuses.ok(found) else 1)

    @app.command()
    def notify(
        sockets: Annotated[list[str] | None, typer.Argument(help="Sockets of agents; none: this host's own.")] = None,
        config: ConfigFile = DEFAULT,
    ) -> None:
        """Tell agents that there is a new commit, so that they need not wait for their next poll.

        gitwan agent notify /run/gitwan/agent.sock
        """
        failed = tell(sockets or [str(settings_of(config).socket)])
        for text in failed:
            warn(text)
        raise typer.Exit(1 if failed else 0)

    @app.command()
    def cycle(config: ConfigFile = DEFAULT, as_json: AsJson = False) -> None:
        """Have the agent fetch and compare everything now, and wait for the outcome."""
        _show_answer(_ask(settings_of(config), "cycle"), as_json)

    @app.command()
    def retry(config: ConfigFile = DEFAULT, as_json: AsJson = False) -> None:
        """Forget which commits were rejected, and try the newest again."""
        _show_answer(_ask(settings_of(config), "retry"), as_json)


def _add_suspend(app: typer.Typer) -> None:
    @app.command()
    def suspend(
        period: Annotated[str, typer.Option("--for", help="How long: 30m, 2h, 1d.")],
        why: Annotated[str, typer.Option("--why", help="For the status, and whoever reads it.")],
        config: ConfigFile = DEFAULT,
    ) -> None:
        """Touch nothing for a while: drift is shown and not repaired, new commits wait.

        A change that is under way is still finished or taken back.

        gitwan agent suspend --for 2h --why "replacing the switch"
        """
        from reconciler.state.suspension import Suspension
        from schema.duration import seconds

        try:
            until = time.time() + seconds(period)
        except ValueError as error:
            fail(str(error))
        _pause(settings_of(config), lambda store: store.suspensions.suspend(Suspension(until, why)))
        typer.echo(f"suspended until {time.strftime('%Y-%m-%d %H:%M:%SZ', time.gmtime(until))}")

    @app.command()
    def resume(config: ConfigFile = DEFAULT) -> None:
        """End a suspension now: what drifted is repaired at once."""
        _pause(settings_of(config), lambda store: store.suspensions.resume())
        typer.echo("resumed")


def _pause(settings: AgentConfig, change: Callable[[Store], None]) -> None:
    """Write the state folder, and have the agent that runs, if any, look at it."""
    from reconciler.process.setup import SetupError, store_of

    try:
        change(store_of(settings))
    except (SetupError, OSError) as error:
        fail(str(error))
    with suppress(Unreachable):
        call(str(settings.socket), "cycle")


def _add_accept(app: typer.Typer) -> None:
    @app.command()
    def accept(
        commit: Annotated[str, typer.Argument(help="The whole commit id.")], config: ConfigFile = DEFAULT
    ) -> None:
        """Allow a commit that does not build on the confirmed one: after a rewritten or a set back history.

        It still has to be signed by somebody who is pinned on this host.

        gitwan agent accept 4f2c1d9e0c7b5a3f8d6e1b2a9c0d7e4f5a6b8c9d
        """
        from reconciler.process.setup import SetupError, store_of

        if not re.fullmatch(r"[0-9a-f]{40}([0-9a-f]{24})?", commit):
            fail(f"{commit!r} is no whole commit id, such as `git rev-parse main` prints")
        settings = settings_of(config)
        try:
            store_of(settings).commits.accept(commit)
        except (SetupError, OSError) as error:
            fail(str(error))
        typer.echo(f"{commit[:7]} is accepted")
        tell([str(settings.socket)])  # where no agent runs, the next one will read it


def _add_ownership(app: typer.Typer, compile_command: Sequence[str]) -> None:
    @app.command()
    def adopt(config: ConfigFile = DEFAULT, yes: Yes = False) -> None:
        """Take ownership of what this host's plan wants and somebody else made.

        Without --yes it only lists what would be taken over or changed.
        """
        settings = settings_of(config)
        try:
            answer = call(str(settings.socket), "adopt", yes=yes)
        except Unreachable:
            answer = running.adopt(running.locked(settings, compile_command, wait=0.0), yes)
        if "error" in answer:
            fail(str(answer["error"]))
        _list("would take over", "nothing to adopt", answer["changes"], yes)
        if yes:
            typer.echo(answer["summary"])
        raise typer.Exit(0 if answer["ok"] else 1)

    @app.command()
    def remove(config: ConfigFile = DEFAULT, yes: Yes = False) -> None:
        """Give this host back: take away all that gitwan made, and put back what it changed.

        What others made stays. Without --yes it only lists what would go.
        """
        from reconciler.cycle import preview

        settings = settings_of(config)
        if yes:
            _stop_agent(settings)
        host = (
            running.locked(settings, compile_command, wait=10.0) if yes else running.unlocked(settings, compile_command)
        )
        _list(
            "would remove", "nothing of ours is here", [c.describe() for c in preview.removal(host.engine).changes], yes
        )
        if yes:
            report = host.finish(host.engine.remove())
            typer.echo(report.summary())
            if report.ok:
                host.store.wipe()
            raise typer.Exit(0 if report.ok else 1)


def _status(settings: AgentConfig) -> dict[str, Any]:
    """The running agent's status, or the last one that was written."""
    from reconciler.state.store import Store

    try:
        return dict(call(str(settings.socket), "status", timeout=30.0)["status"])
    except Unreachable as error:
        found = Store(settings.state).status()
        if found is None:
            fail(f"{error}, and it left no status in {settings.state}")
        warn(f"{error}; this is what it wrote last")
        return found


def _ask(settings: AgentConfig, command: str) -> dict[str, Any]:
    try:
        return call(str(settings.socket), command, timeout=600.0)
    except Unreachable as error:
        fail(str(error))


def _show_answer(answer: dict[str, Any], as_json: bool) -> None:
    from reconciler.process import status as statuses

    if as_json:
        typer.echo(json.dumps(answer, indent=1))
    else:
        typer.echo(f"{answer['status']['host']}: {answer['summary']}")
        if not answer["ok"]:
            typer.echo(statuses.render(answer["status"], time.time()))
    raise typer.Exit(0 if answer["ok"] else 1)


def _stop_agent(settings: AgentConfig) -> None:
    try:
        call(str(settings.socket), "stop", timeout=10.0)
    except Unreachable:
        pass  # none runs


def _list(what: str, nothing: str, lines: Sequence[str], yes: bool) -> None:
    for line in lines:
        typer.echo(line)
    if not lines:
        typer.echo(nothing)
    elif not yes:
        typer.echo(f"{what} {len(lines)}: run again with --yes")
