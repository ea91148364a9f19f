"""`gitwan secret`, and `gitwan keys rotate`: the files of secrets and keys in a repository."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from compiler.shell.inputs import read_folder
from compiler.shell.outputs import write
from schema.desired import Secret
from schema.desired.secret import RESERVED, SecretKind, SecretName

if TYPE_CHECKING:
    from compiler.fabric.model import Fabric
    from compiler.shell.secrets import Shelf

SecretArgument = Annotated[str, typer.Argument(help="The secret's name.")]
FolderOption = Annotated[Path, typer.Option("--dir", "-C", help="The folder of fabric.yaml.")]
For = Annotated[list[str] | None, typer.Option("--for", help="A host that shall be able to decrypt it too.")]
Identity = Annotated[Path, typer.Option("--identity", envvar="GITWAN_IDENTITY", help="Your age identity, or SSH key.")]
HERE, OWN = Path(), Path("~/.config/gitwan/age.key")

app = typer.Typer(
    help="Secrets of the repository, encrypted to those who need them.", no_args_is_help=True, rich_markup_mode="rich"
)


@app.command()
def add(
    name: SecretArgument,
    folder: FolderOption = HERE,
    hosts: For = None,
    generate: Annotated[SecretKind | None, typer.Option(help="Make a new key.")] = None,
    kind: Annotated[SecretKind, typer.Option(help="What is read from standard input, or asked for.")] = "value",
) -> None:
    """Add a secret: secrets/NAME.age, and beside it NAME.yaml with its fingerprint and its recipients.

    gitwan secret add ams-fra --generate psk
    """
    from compiler.shell import vault

    shelf = _shelf(folder)
    _check_name(name)
    if name in shelf.secrets:
        _fail(f"there is a secret {name} already: `gitwan secret edit` or `gitwan secret rotate`")
    recipients = shelf.recipients(name, hosts or ())
    try:
        value = vault.generate(generate) if generate else _asked(name)
        _write(folder, name, generate or kind, value, recipients)
    except vault.VaultError as error:
        _fail(str(error))


@app.command()
def edit(
    name: SecretArgument,
    folder: FolderOption = HERE,
    hosts: For = None,
    identity: Identity = OWN,
    editor: Annotated[str, typer.Option(envvar=["VISUAL", "EDITOR"], help="What to edit it with.")] = "vi",
) -> None:
    """Edit a secret in your editor, in memory; nothing decrypted is left behind."""
    from compiler.shell import vault

    shelf = _shelf(folder)
    secret, recipients = shelf.known(name), shelf.recipients(name, hosts or ())
    try:
        before = vault.unseal(_ciphertext(folder, name), identity.expanduser())
        after = vault.checked(secret.kind, vault.edit(before, editor))
        if after == before:
            typer.echo("no change")
            return
        _write(folder, name, secret.kind, after, recipients)
    except vault.VaultError as error:
        _fail(f"{name}: {error}")


@app.command()
def rotate(
    name: SecretArgument,
    folder: FolderOption = HERE,
    hosts: For = None,
    identity: Identity = OWN,
    generate: Annotated[bool, typer.Option("--generate", help="Make a new value, rather than keep this one.")] = False,
) -> None:
    """Encrypt a secret to the recipients of now; with --generate, a new value, for which no identity is needed.

    gitwan secret rotate ams-fra --generate
    """
    from compiler.shell import vault

    shelf = _shelf(folder)
    secret, recipients = shelf.known(name), shelf.recipients(name, hosts or ())
    try:
        if generate:
            _write(folder, name, secret.kind, vault.generate(secret.kind), recipients)
        else:
            value = vault.unseal(_ciphertext(folder, name), identity.expanduser())
            _write(folder, name, secret.kind, value, recipients, secret.fingerprint)
    except vault.VaultError as error:
        _fail(f"{name}: {error}")


@app.command("show-recipients")
def show_recipients(
    name: Annotated[str | None, typer.Argument(help="One secret; by default all of them.")] = None,
    folder: FolderOption = HERE,
) -> None:
    """Show who can decrypt what, and which hosts need it. Exit 1 where one of them cannot."""
    shelf = _shelf(folder)
    names = [shelf.known(name).secret] if name else sorted(shelf.secrets)
    for secret in names:
        needs = ", ".join(shelf.needs.get(secret, ())) or "nothing"
        typer.echo(f"{secret}  ({shelf.secrets[secret].kind}, needed by {needs})")
        for holder, recipient in sorted(shelf.secrets[secret].recipients.items()):
            typer.echo(f"  {holder:<20} {recipient}")
        for holder in shelf.stale(secret):
            typer.echo(f"  ! {holder}: run `gitwan secret rotate {secret}`", err=True)
    raise typer.Exit(1 if any(shelf.stale(secret) for secret in names) else 0)


def rotate_keys(
    host: Annotated[str, typer.Argument(help="A host of the repository.")],
    key: Annotated[str, typer.Argument(help="What `gitwan keys next` printed there.")] = "",
    folder: FolderOption = HERE,
    finish: Annotated[bool, typer.Option("--finish", help="The second commit: the old key goes.")] = False,
) -> None:
    """Replace a host's WireGuard key without loss, in two commits.

    The first adds the new key: tunnels with it come up beside the old ones, and traffic moves to each as soon as
    both of its ends have it. The second, with --finish, takes the old ones away.

        gitwan keys rotate nas 4T5v…=
        gitwan keys rotate nas --finish
    """
    keys = _keys(folder, host)
    if not keys:
        _fail(f"there is no keys/{host}.pub in {folder}")
    if finish:
        _finish(folder, host, keys)
        return
    if len(keys) > 1:
        _fail(f"{host} is being rotated already: `gitwan keys rotate {host} --finish`, or remove the newer key")
    if not key:
        _fail(f"run `gitwan keys next` on {host}, and give the line that it prints")
    path = folder / "keys" / f"{host}.{max(keys) + 1}.pub"
    node = _lock_with(folder, path, f"{key}\n").nodes[host]
    typer.echo(f"wrote {path}: commit it with fabric.lock")
    typer.echo("next: wait until each tunnel of the new key has a handshake at both ends (`gitwan agent status`), then")
    typer.echo(f"      `gitwan keys rotate {host} --finish`")
    if node.clients and not node.clients_key:
        names = ", ".join(roamer.name for roamer in node.clients)
        typer.echo(
            f"note: with that, {names} need the new key too (`gitwan client`); `clients_key:` would spare them that"
        )


def _finish(folder: Path, host: str, keys: dict[int, Path]) -> None:
    if len(keys) < 2:
        _fail(f"{host} has one key only: nothing is being rotated")
    _lock_with(folder, keys[min(keys)], None)
    typer.echo(f"removed {keys[min(keys)]}: commit this with fabric.lock")
    typer.echo(f"next: when {host} is at that commit, remove its old private key from /etc/gitwan")


def _lock_with(folder: Path, path: Path, text: str | None) -> Fabric:
    """Write or remove a key's file, and the lock that goes with it; or neither, where the result does not compile."""
    from compiler.compile import compile_files
    from schema.input import LOCK
    from schema.lock import lock_text
    from schema.problem import Problems

    found = read_folder(folder)
    relative = path.relative_to(folder).as_posix()
    if text is None:
        del found.files[relative]
    else:
        found.files[relative] = text.encode()
    result = compile_files(found.files, found.special)
    if result.fabric is None or any(p.severity == "error" and p.code != "GW023" for p in result.problems):
        raise Problems([problem for problem in result.problems if problem.severity == "error"])
    if text is None:
        path.unlink()
    else:
        write(path, text)
    write(folder / LOCK, lock_text(result.fabric.lock))
    return result.fabric


def _keys(folder: Path, host: str) -> dict[int, Path]:
    """Number -> file of a host's public keys."""
    paths = {1: folder / "keys" / f"{host}.pub"}
    for path in (folder / "keys").glob(f"{host}.*.pub"):
        number = path.name.removeprefix(f"{host}.").removesuffix(".pub")
        if number.isdecimal():
            paths[int(number)] = path
    return {number: path for number, path in paths.items() if path.exists()}


def _shelf(folder: Path) -> Shelf:
    from compiler.shell.secrets import Shelf

    return Shelf.of(read_folder(folder).files)


def _check_name(name: str) -> None:
    """Before anybody types a value for it."""
    from pydantic import TypeAdapter, ValidationError

    try:
        TypeAdapter(SecretName).validate_python(name)
    except ValidationError:
        _fail(f"{name!r} is no name for a secret: lower-case letters, digits and hyphens, and not {RESERVED!r}")


def _asked(name: str) -> bytes:
    if sys.stdin.isatty():
        return str(typer.prompt(f"value of {name}", hide_input=True, confirmation_prompt=True)).encode()
    return sys.stdin.buffer.read()


def _ciphertext(folder: Path, name: str) -> bytes:
    try:
        return (folder / "secrets" / f"{name}.age").read_bytes()
    except OSError as error:
        _fail(f"{error.filename}: {error.strerror}")


def _write(folder: Path, name: str, kind: SecretKind, value: bytes, recipients: dict[str, str], same: str = "") -> None:
    """Both files of a secret. `same` is the fingerprint of a value that has not changed. Raises VaultError."""
    from compiler.shell import vault
    from compiler.shell.secrets import sidecar
    from schema.plan.fingerprint import sealed_digest

    value = vault.checked(kind, value)
    ciphertext = vault.seal(value, recipients.values())
    fingerprint = same or vault.fingerprint(kind, value)
    digest = sealed_digest(ciphertext)
    secret = Secret(secret=name, kind=kind, fingerprint=fingerprint, digest=digest, recipients=recipients)
    place = folder / "secrets"
    write(place / f"{name}.age", ciphertext)
    write(place / f"{name}.yaml", sidecar(secret))
    typer.echo(f"{place / name}.age: encrypted to {', '.join(recipients)}")


def _fail(text: str) -> NoReturn:
    typer.echo(f"error: {text}", err=True)
    raise typer.Exit(1)
