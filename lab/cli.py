"""`gitwan lab`: the whole network on this machine."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from lab.client import ask, down, up
from lab.folder import LabError, LabFolder
from schema.duration import seconds

Sites = Annotated[Path, typer.Argument(help="The folder of fabric.yaml.", show_default="here")]
Where = Annotated[Path, typer.Option("--lab", help="The lab's own folder; everything it writes is there.")]
HERE, LAB = Path(), Path(".lab")

app = typer.Typer(
    help="The whole network on this machine: namespaces, real agents, real WireGuard, real git.", no_args_is_help=True
)


def _fail(error: LabError) -> typer.Exit:
    typer.echo(f"error: {error}", err=True)
    return typer.Exit(1)


def _folder(path: Path) -> LabFolder:
    return LabFolder(path.resolve())


@app.command("up")
def up_(sites: Sites = HERE, lab: Where = LAB) -> None:
    """Start the network of a repository, as it is in the working tree.

    Example: gitwan lab up sites
    """
    try:
        up(sites, _folder(lab), lambda text: typer.echo(f"lab: {text}"))
    except LabError as error:
        raise _fail(error) from None
    typer.echo(f"lab: ready; edit and push in {_folder(lab).work}, look with `gitwan lab status`")


@app.command("down")
def down_(lab: Where = LAB) -> None:
    """End the lab and remove its folder. Nothing of it is left.

    Example: gitwan lab down
    """
    try:
        typer.echo("lab: gone" if down(_folder(lab)) else "lab: there was none")
    except LabError as error:
        raise _fail(error) from None


@app.command()
def status(lab: Where = LAB, as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Show every host of the lab: commit, conditions, tunnels. Exit 1 where one is not well.

    Example: gitwan lab status --json
    """
    from lab.drive import show_hosts, statuses
    from reconciler.process.status import ok

    try:
        if not as_json:
            raise typer.Exit(0 if show_hosts(_folder(lab), Console()) else 1)
        found = statuses(_folder(lab))
    except LabError as error:
        raise _fail(error) from None
    typer.echo(json.dumps(found, indent=1))
    raise typer.Exit(0 if all(s is not None and ok(s) for s in found.values()) else 1)


@app.command("exec", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
def exec_(
    space: Annotated[str, typer.Argument(help="A host, a machine, a client; `git` or `internet`.")],
    command: Annotated[list[str], typer.Argument(help="The command and its arguments.")],
    lab: Where = LAB,
) -> None:
    """Run a command inside the lab. Its exit code is this one's.

    Example: gitwan lab exec ams-gw1 wg show
    """
    try:
        found = ask(_folder(lab), "exec", [0, 1, 2], space=space, command=command)
    except LabError as error:
        raise _fail(error) from None
    raise typer.Exit(found["code"])


@app.command()
def line(
    name: Annotated[str, typer.Argument(help="A gateway, as `gitwan exits list` names it: uk/london401.")],
    delay: Annotated[str | None, typer.Option(help="Each way: 7ms.")] = None,
    jitter: Annotated[str | None, typer.Option(help="Up to so much more.")] = None,
    loss: Annotated[float | None, typer.Option(help="Per cent.", min=0, max=100)] = None,
    silent: Annotated[bool | None, typer.Option(help="Whether nothing comes through.")] = None,
    lab: Where = LAB,
) -> None:
    """Change the distance to a gateway of a provider, and print what it is now.

    Example: gitwan lab line uk/london401 --delay 120ms
    """
    try:
        values = {
            "delay": None if delay is None else seconds(delay),
            "jitter": None if jitter is None else seconds(jitter),
            "loss": None if loss is None else loss / 100,
            "silent": silent,
        }
        chosen = {key: value for key, value in values.items() if value is not None}
        found = ask(_folder(lab), "line", line=name, values=chosen)["line"]
    except LabError as error:
        raise _fail(error) from None
    except ValueError as error:
        raise _fail(LabError(str(error))) from None
    typer.echo(
        f"{name}: {found['delay'] * 1000:g} ms each way, up to {found['jitter'] * 1000:g} ms more, "
        f"{found['loss']:.0%} lost{', silent' if found['silent'] else ''}"
    )


@app.command()
def fault(
    at: Annotated[str, typer.Argument(help="A server: london401, se-mma-wg-001; pia-api, mullvad-api.")],
    fault: Annotated[str, typer.Argument(help="What it does from now on; `none` ends it.")],
    lab: Where = LAB,
) -> None:
    """Make a server of a provider fail.

    Example: gitwan lab fault pia-api http-500
    """
    try:
        ask(_folder(lab), "fault", at=at, fault="" if fault == "none" else fault)
    except LabError as error:
        raise _fail(error) from None
    typer.echo(f"{at}: {fault}")


@app.command()
def test(
    sites: Sites = HERE,
    lab: Where = LAB,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the lab running.", envvar="KEEP")] = False,
) -> None:
    """Bring the network up, ping every pair of networks, push a change, and end. Exit 0 if every row passed.

    Example: gitwan lab test sites --keep
    """
    from lab.drive import demonstrate

    folder = _folder(lab)
    console = Console(width=None if sys.stdout.isatty() else 160)
    good = False
    # By default it would end at once, and leave the lab; and Ctrl-C does not reach a job in the background.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        up(sites, folder, lambda text: console.print(f"lab: {text}"))
        good = demonstrate(folder, console)
    except LabError as error:
        raise _fail(error) from None
    finally:
        if keep and folder.settings.exists():
            console.print(f"the lab runs on: `gitwan lab status --lab {lab}`; `gitwan lab down --lab {lab}` ends it")
        else:
            down(folder)
    raise typer.Exit(0 if good else 1)
