"""Shared by the command groups of a host: options, the configuration, and how a command fails."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

if TYPE_CHECKING:
    from reconciler.state.config import AgentConfig

ConfigFile = Annotated[Path, typer.Option("--config", help="This host's settings.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")]


def settings_of(path: Path) -> AgentConfig:
    """Load the configuration; ends the program if it cannot be read."""
    from reconciler.state.config import ConfigError, load  # takes a tenth of a second, which `notify` avoids

    try:
        return load(path)
    except ConfigError as error:
        fail(str(error))


def warn(text: str) -> None:
    """Print an error, and go on."""
    typer.echo(f"error: {text}", err=True)


def fail(text: str) -> NoReturn:
    """Print an error, and end the program with exit code 1."""
    warn(text)
    raise typer.Exit(1)
