"""`gitwan lab`: the whole network on this machine."""

from __future__ import annotations

import typer

app = typer.Typer(help="The whole network on this machine, in network namespaces.", no_args_is_help=True)
