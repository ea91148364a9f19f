"""The compiler's commands: init, validate, compile, lock, diff, schema, client."""

from __future__ import annotations

import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from compiler.compile import Compilation, compile_files
from compiler.shell.inputs import Input, read_folder, read_revision
from compiler.shell.outputs import replace, write
from schema.problem import Place, Problem, Problems

FolderArgument = Annotated[Path, typer.Argument(help="The folder of fabric.yaml.", show_default="here")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")]
HERE = Path()
CLIENTS = "_clients"
"""Where clients' configurations are written; no host can have that name."""


class Format(StrEnum):
    """How a diff is printed."""

    TEXT = "text"
    MARKDOWN = "markdown"
    JSON = "json"


def mount(app: typer.Typer) -> None:
    """Adds the compiler's commands to the front door."""
    for command in (init, validate, compile_, lock, diff, client, schema):
        app.command(command.__name__.rstrip("_"))(command)


def _compiled(found: Input, strict: bool = False) -> Compilation:
    return compile_files(found.files, found.special, strict)


def _show(problems: list[Problem], as_json: bool = False) -> None:
    if as_json:
        typer.echo(json.dumps({"problems": [problem.json() for problem in problems]}, indent=2))
        return
    for problem in problems:
        colour = typer.colors.RED if problem.severity == "error" else typer.colors.YELLOW
        first, *rest = problem.text().split("\n")
        place, _, message = first.partition(f": {problem.severity}")
        typer.echo(f"{place}: " + typer.style(f"{problem.severity}{message}", fg=colour), err=True)
        for line in rest:
            typer.echo(line, err=True)


def _stop(problems: list[Problem], as_json: bool = False) -> typer.Exit:
    _show(problems, as_json)
    return typer.Exit(1)


def init(folder: Annotated[Path, typer.Argument(help="A new or empty folder.")]) -> None:
    """Write a small working repository: two sites and a link, ready to edit.

    Example: gitwan init my-wan
    """
    from compiler.shell.starter import STARTER

    if folder.exists() and (not folder.is_dir() or any(p.name != ".git" for p in folder.iterdir())):
        raise _stop([Problem("GW073", Place(str(folder)), "not empty", "`gitwan init` writes into a new folder")])
    for name, text in STARTER.items():
        write(folder / name, text)
        typer.echo(f"wrote {folder / name}")
    typer.echo(f"next: edit these files, then `gitwan validate {folder}`; README.md in it says how to go on")


def validate(
    folder: FolderArgument = HERE,
    as_json: Json = False,
    strict: Annotated[bool, typer.Option("--strict", help="A lock that lacks a number is an error.")] = False,
) -> None:
    """Check a repository; every problem in one run, each with its place and what to do.

    Example: gitwan validate sites
    """
    result = _compiled(read_folder(folder), strict)
    if result.failed:
        raise _stop(result.problems, as_json)
    _show(result.problems, as_json)
    if not as_json and result.fabric:
        fabric = result.fabric
        counts = f"{len(fabric.sites)} sites, {len(fabric.nodes)} hosts, {len(fabric.clients)} clients"
        typer.echo(f"{fabric.name}: {counts}, no errors")


def compile_(
    folder: FolderArgument = HERE,
    out: Annotated[Path, typer.Option("--out", "-o", help="Where to write; gitwan owns this folder.")] = Path("out"),
    host: Annotated[list[str] | None, typer.Option("--host", help="Only these hosts.")] = None,
    partial: Annotated[bool, typer.Option("--partial", help="Exit 0 even where hosts are left out.")] = False,
    as_json: Json = False,
) -> None:
    """Write each host's plan.json, and the same plan in native files.

    In OUT/HOST: plan.json, wireguard/DEVICE.conf, iptables.rules, ip6tables.rules, 1-ip.batch, 2-ip6.batch,
    3-ip.batch, sysctl.conf, keepalived.conf and radvd.conf; in OUT/_clients the configurations of roaming clients.

    Example: gitwan compile sites --out out --host nas
    """
    from compiler.agentless.clients import client_file
    from compiler.render import render

    found = read_folder(folder)
    result = _compiled(found)
    fabric = result.fabric
    if fabric is None:
        raise _stop(result.problems, as_json)
    unknown = sorted(set(host or ()) - set(result.hosts))
    if unknown:
        hint = f"hosts with a plan: {', '.join(result.hosts)}"
        raise _stop(
            [*result.problems, Problem("GW070", Place(str(folder)), f"no plan for {unknown[0]!r}", hint)], as_json
        )
    hosts = host or result.hosts
    written = {}
    with typer.progressbar(hosts, label="compiling", file=sys.stderr, hidden=len(hosts) < 50) as bar:
        for name in bar:
            plan = result.plan(name)
            written[name] = plan.digest
            files = {"plan.json": plan.canonical().decode(), **render(plan)}
            replace(out / name, files | {path: found.files[path].decode() for path in _sealed(result, name)})
    if not host:
        configs = {f"{name}.conf": client_file(fabric, roamer) for name, roamer in sorted(fabric.clients.items())}
        replace(out / CLIENTS, {name: text for name, text in configs.items() if text})
        for name in sorted(path.name for path in out.iterdir() if path.is_dir()):
            if name not in (*hosts, CLIENTS):
                replace(out / name, {})
    if as_json:
        answer = {"plans": written, "problems": [problem.json() for problem in result.problems]}
        typer.echo(json.dumps(answer, indent=2))
    else:
        _show(result.problems)
        for name, digest in written.items():
            typer.echo(f"{out / name}/plan.json  {digest}")
    if result.failed and not partial:
        raise typer.Exit(1)


def _sealed(result: Compilation, host: str) -> list[str]:
    """The ciphertexts that a host's plan needs beside it."""
    needs = result.fabric.needs if result.fabric else {}
    return [f"secrets/{name}.age" for name, hosts in sorted(needs.items()) if host in hosts]


def lock(
    folder: FolderArgument = HERE,
    check: Annotated[bool, typer.Option("--check", help="Write nothing; exit 1 if the file would change.")] = False,
) -> None:
    """Keep fabric.lock: the numbers that nobody wrote. What it names stays; what is gone is dropped.

    Example: gitwan lock sites && git add sites/fabric.lock
    """
    from schema.input import LOCK
    from schema.lock import lock_text

    result = _compiled(read_folder(folder), strict=check)
    if result.fabric is None or (check and result.failed):
        raise _stop(result.problems)
    text = lock_text(result.fabric.lock)
    path = folder / LOCK
    if check:
        typer.echo(f"{path}: names every number")
        return
    before = path.read_bytes().decode(errors="replace") if path.is_file() else ""
    if text != before:
        write(path, text)
    changed = len(set(before.splitlines()) ^ set(text.splitlines()))
    typer.echo(
        f"{path}: {len(result.fabric.lock)} numbers, {changed} lines changed" if changed else f"{path}: no change"
    )


def diff(
    base: Annotated[str, typer.Argument(help="A commit, branch or tag.")],
    head: Annotated[str | None, typer.Argument(help="Another one; by default the files as they are.")] = None,
    folder: Annotated[Path, typer.Option("--dir", "-C", help="The folder of fabric.yaml.")] = HERE,
    form: Annotated[Format, typer.Option("--format", help="How to print it.")] = Format.TEXT,
    as_json: Json = False,
) -> None:
    """Show what changes on which host between two revisions, and what that costs running traffic.

    Exit 0 for no change, 2 for changes, 1 for any error.

    Example: gitwan diff main --dir sites
    """
    from compiler.review.diff import diff_plans
    from compiler.review.report import json_report, markdown_report, text_report

    form = Format.JSON if as_json else form
    old = _base(folder, base)
    new = _compiled(read_revision(folder, head) if head else read_folder(folder))
    errors = [problem for problem in new.problems if problem.severity == "error"]
    found = diff_plans(old.plans() if old.fabric else {}, new.plans()) if new.fabric else diff_plans({}, {})
    if form is Format.JSON:
        typer.echo(json.dumps(json_report(found, new.problems), indent=2))
    elif form is Format.MARKDOWN:
        typer.echo(markdown_report(found, errors, compiled=new.fabric is not None), nl=False)
    else:
        typer.echo(text_report(found) if new.fabric else "", nl=False)
        _show(errors)
    if errors:
        raise typer.Exit(1)
    raise typer.Exit(2 if found.hosts else 0)


def _base(folder: Path, revision: str) -> Compilation:
    """The network to compare with. One that was not there yet is empty. Raises Problems for one that is broken."""
    found = read_revision(folder, revision)
    result = _compiled(found)
    if result.fabric is None and found.files:
        hint = "its problems follow; name another revision to compare with"
        broken = Problem("GW074", Place(revision), "the revision to compare with does not compile", hint)
        raise Problems([broken, *result.problems])
    return result


def client(
    name: Annotated[str, typer.Argument(help="A client of clients/*.yaml.")],
    folder: Annotated[Path, typer.Option("--dir", "-C", help="The folder of fabric.yaml.")] = HERE,
) -> None:
    """Print a roaming client's configuration for wg-quick.

    Example: gitwan client laptop --dir sites
    """
    from compiler.agentless.clients import client_file

    result = _compiled(read_folder(folder))
    if result.fabric is None:
        raise _stop(result.problems)
    roamer = result.fabric.clients.get(name)
    if roamer is None:
        hint = f"clients: {', '.join(sorted(result.fabric.clients)) or 'none'}"
        raise _stop([Problem("GW070", Place(str(folder)), f"no client {name!r}", hint)])
    text = client_file(result.fabric, roamer)
    if text is None:
        raise _stop(result.problems)
    typer.echo(text, nl=False)


def schema(
    out: Annotated[Path | None, typer.Option("--out", help="A folder to write into; by default print them.")] = None,
) -> None:
    """Write the JSON Schema of every document, for editors.

    Example: gitwan schema --out schema/json
    """
    from schema.json_schema import schemas

    for name, text in schemas().items():
        if out is None:
            typer.echo(text, nl=False)
        else:
            write(out / name, text)


def report(error: Problems) -> int:
    """Problems that reached the front door, as every command shows them; the exit code."""
    _show(list(error.problems), as_json="--json" in sys.argv)
    return 1
