"""`gitwan keys`: this host's key pair."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def keys(
    folder: Annotated[Path, typer.Option("--dir", help="Where the private key is kept.")] = Path("/etc/gitwan"),
) -> None:
    """Print the public key to commit as keys/HOST.pub, and make the private key where there is none.

    The private key is a file that only its owner can read, and one that is there is never touched.

        gitwan keys > keys/nas.pub
    """
    from reconciler.keys import KeyFileError, ensure_key

    try:
        public, made = ensure_key(folder)
    except KeyFileError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None
    if made:
        typer.echo(f"made {folder / 'private.key'}; commit the line below as keys/HOST.pub", err=True)
    typer.echo(public)
