"""Reads the compiler's input from a folder, or from a revision of the git repository around the folder.

The compiler is pure, except for this file, `outputs.py`, `vault.py` and the command lines.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from schema.input import is_input
from schema.problem import Place, Problem, Problems

MODES = {0o120000: "symlink", 0o160000: "submodule"}


@dataclass(slots=True)
class Input:
    """Files by path below the folder, and the paths that are not plain files."""

    files: dict[str, bytes] = field(default_factory=dict)
    special: dict[str, str] = field(default_factory=dict)


def read_folder(folder: Path) -> Input:
    """The current files of a folder. Raises Problems if the folder cannot be read."""
    found = Input()
    try:
        for root, folders, names in os.walk(folder, onerror=_refuse):
            folders[:] = [name for name in sorted(folders) if not _outside(folder, Path(root, name), found)]
            for name in sorted(names):
                path = Path(root, name)
                relative = path.relative_to(folder).as_posix()
                if path.is_symlink():
                    found.special[relative] = "symlink"
                elif is_input(relative):
                    found.files[relative] = path.read_bytes()
    except OSError as error:
        raise Problems([_unreadable(error, str(folder))]) from None
    if not folder.is_dir():
        raise Problems([Problem("GW071", Place(str(folder)), "no such folder", "give the folder of fabric.yaml")])
    return found


def _outside(folder: Path, path: Path, found: Input) -> bool:
    """Whether to skip a folder: hidden folders, and links out of the repository, which are recorded in `found`."""
    relative = path.relative_to(folder).as_posix()
    if path.is_symlink():
        found.special[relative] = "symlink"
    elif (path / ".git").exists():
        found.special[relative] = "submodule"
    return relative in found.special or path.name.startswith(".")


def _refuse(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


def _unreadable(error: OSError, name: str) -> Problem:
    return Problem("GW071", Place(str(error.filename or name)), f"cannot be read: {error.strerror}", "")


def read_revision(folder: Path, revision: str) -> Input:
    """The same files as in a commit. Raises Problems if the commit does not exist."""
    # A late import: only `gitwan diff` needs git, and importing it takes a tenth of a second.
    from git import Blob, GitCommandError, InvalidGitRepositoryError, NoSuchPathError, Repo
    from git.exc import BadName

    try:
        repo = Repo(folder, search_parent_directories=True)
        below = folder.resolve().relative_to(Path(repo.working_dir or "/").resolve())
        tree = repo.commit(revision).tree
        for part in below.parts:
            tree = tree / part
    except (InvalidGitRepositoryError, NoSuchPathError):
        hint = "`gitwan diff` compares revisions: it needs the folder to be in a git repository"
        raise Problems([Problem("GW072", Place(str(folder)), "not in a git repository", hint)]) from None
    except (BadName, ValueError, IndexError, GitCommandError):
        hint = "name a commit, a branch or a tag that is here; a shallow clone may lack it"
        raise Problems([Problem("GW072", Place(str(folder)), f"no revision {revision!r}", hint)]) from None
    except KeyError:
        return Input()  # the folder did not exist then
    found = Input()
    for item in tree.traverse():
        path = Path(str(item.path)).relative_to(below).as_posix()  # type: ignore[union-attr]
        mode = MODES.get(item.mode)  # type: ignore[union-attr]
        if mode:
            found.special[path] = mode
        elif isinstance(item, Blob) and is_input(path):
            found.files[path] = item.data_stream.read()
    return found
