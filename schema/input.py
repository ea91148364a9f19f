"""Which files of a repository gitwan reads. The loader, the commands and the agent all ask this module."""

from __future__ import annotations

LOCK = "fabric.lock"


def is_hidden(path: str) -> bool:
    """Whether a path is a hidden file or in a hidden folder. gitwan never reads these."""
    return any(part.startswith(".") for part in path.split("/"))


def is_input(path: str) -> bool:
    """Whether gitwan reads a file: YAML, the lock, public keys, recipients and sealed secrets."""
    if is_hidden(path):
        return False
    if path.startswith("keys/"):
        return path.endswith((".pub", ".age"))
    return path.endswith((".yaml", ".yml")) or path == LOCK or (path.startswith("secrets/") and path.endswith(".age"))


def is_refused(path: str, kind: str) -> bool:
    """Whether gitwan rejects a `symlink` or `submodule` (`kind`) at this path.

    A link without an extension may point to a folder with files that nobody reviewed, so it is rejected, too.
    """
    if is_hidden(path):
        return False
    return kind == "submodule" or is_input(path) or "." not in path.rpartition("/")[2]
