"""`gitwan keys`: the keys that this host keeps."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from reconciler.report.terminal import fail

KeysFolder = Annotated[Path, typer.Option("--dir", help="Where this host's keys are kept.")]
DEFAULT = Path("/etc/gitwan")


def make_app() -> typer.Typer:
    """The command group."""
    app = typer.Typer(help="The keys of this host, and their rotation.", rich_markup_mode="rich")
    app.callback(invoke_without_command=True)(keys)
    app.command("next")(next_)
    app.command()(recipient)
    return app


def keys(context: typer.Context, folder: KeysFolder = DEFAULT) -> None:
    """Print the public key to commit as keys/HOST.pub, and make the private key where there is none.

    The private key is a file that only its owner can read, and one that is there is never touched.

        gitwan keys > keys/nas.pub
    """
    from reconciler.state.keys import KeyFileError, ensure_key

    if context.invoked_subcommand is not None:
        return
    try:
        public, made = ensure_key(folder)
    except KeyFileError as error:
        fail(str(error))
    if made:
        typer.echo(f"made {folder / 'private.key'}; commit the line below as keys/HOST.pub", err=True)
    typer.echo(public)


def next_(folder: KeysFolder = DEFAULT) -> None:
    """Make one more key beside the one in use, and print its public half for `gitwan keys rotate`.

    gitwan keys next
    """
    from reconciler.state.keys import KeyFileError, next_key

    try:
        public, path = next_key(folder)
    except KeyFileError as error:
        fail(str(error))
    typer.echo(f"made {path}; give the line below to `gitwan keys rotate HOST`", err=True)
    typer.echo(public)


def recipient(folder: KeysFolder = DEFAULT) -> None:
    """Print what secrets are encrypted to for this host, and make its age identity where there is none.

    gitwan keys recipient > keys/nas.age
    """
    from reconciler.state.keys import KeyFileError, ensure_identity

    try:
        typer.echo(ensure_identity(folder))
    except KeyFileError as error:
        fail(str(error))
