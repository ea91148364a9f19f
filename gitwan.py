"""The command line's entry point: mounts the command groups. The only file that imports from every room."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from reconciler.process.parent import guard, guarded

if TYPE_CHECKING:
    import typer

COMPILE = (sys.executable, "-m", "compiler.worker")
"""The command that the agent runs to compile a commit; it knows nothing else of the compiler."""


def build(only: str = "") -> typer.Typer:
    """Build the whole command line, or one group of it, so that an agent does not wait for the compiler's imports."""
    import typer

    app = typer.Typer(
        name="gitwan",
        help="A wide-area network from one git repository.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_nothing)
    if only in ("", "agent"):
        from reconciler.cli.agent import make_app

        app.add_typer(make_app(COMPILE), name="agent")
    if only not in ("agent", "keys"):
        from reconciler.loops import LOOPS

        for plug in LOOPS:
            if plug.command is not None and only in ("", plug.name):
                app.add_typer(plug.command(), name=plug.name)
    if only in ("", "keys"):
        from compiler.cli.secrets import rotate_keys
        from reconciler.cli.keys import make_app as make_keys

        keys = make_keys()
        keys.command("rotate")(rotate_keys)
        app.add_typer(keys, name="keys")
    if not only:
        from compiler.cli.main import mount
        from compiler.cli.routes import routes
        from compiler.cli.secrets import app as secret
        from lab.cli import app as lab

        mount(app)
        app.command("routes")(routes)
        app.add_typer(secret, name="secret")
        app.add_typer(lab, name="lab")
    return app


def _nothing() -> None:
    """A wide-area network from one git repository: `gitwan validate`, `diff`, `lab up`, `agent run`."""


def main() -> None:
    """Run a command. Exit 0: done; 2: a diff found changes; 1: any error, wrong usage included."""
    if guarded(sys.argv):
        sys.argv = guard(sys.argv)  # before any import that would make the parent larger
    import typer

    first = sys.argv[1] if len(sys.argv) > 1 else ""
    command = typer.main.get_command(build(_group(first)))
    try:
        code = command.main(standalone_mode=False, prog_name="gitwan")
    except typer.TyperException as error:
        # A wrong command line; the library's exit code for it, 2, means "changes found" here.
        show = getattr(error, "show", None)
        show() if show else typer.echo(f"Error: {error.format_message()}", err=True)
        code = 1
    except (typer.Abort, KeyboardInterrupt):
        code = 130
    except BrokenPipeError:
        # The reader has gone (`| head`); Python would complain once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except Exception as error:
        code = _problems(error)
    sys.exit(code if isinstance(code, int) else 0)


def _group(first: str) -> str:
    """The one group that a command line needs; empty, for all groups, if that is not certain."""
    if first in ("agent", "keys"):
        return first
    from reconciler.loops import LOOPS

    return first if any(plug.name == first and plug.command is not None for plug in LOOPS) else ""


def _problems(error: Exception) -> int:
    from schema.problem import Problems

    if not isinstance(error, Problems):
        raise error
    from compiler.cli.main import report

    return report(error)


if __name__ == "__main__":
    main()
