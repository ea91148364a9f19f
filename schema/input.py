"""Which files of a repository are gitwan's. Asked by the loader, by the commands and by the agent, alike."""

from __future__ import annotations

LOCK = "fabric.lock"


def is_hidden(path: str) -> bool:
    """Hidden files and folders are others' business."""
    return any(part.startswith(".") for part in path.split("/"))


def is_input(path: str) -> bool:
    """Whether a file is one that gitwan reads: YAML, the lock, keys, recipients and sealed secrets."""
    if is_hidden(path):
        return False
    if path.startswith("keys/"):
        return path.endswith((".pub", ".age"))
    return path.endswith((".yaml", ".yml")) or path == LOCK or (path.startswith("secrets/") and path.endswith(".age"))


def is_refused(path: str, kind: str) -> bool:
    """Whether something that is no plain file (`symlink`, `submodule`) stands where gitwan would read one.

    A link without an ending may lead to a folder, with files in it that nobody reviewed.
    """
    if is_hidden(path):
        return False
    return kind == "submodule" or is_input(path) or "." not in path.rpartition("/")[2]
