"""Stores an exit's tunnels across restarts, so that sessions continue and keys stay the same.

exits/NAME/private.key    the exit's private key, created here
exits/NAME/tunnels.json   the gateways of its devices
exits/NAME/*.json         data of its provider (`providers/cache.py`)
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from pydantic import TypeAdapter

from reconciler.base.files import dump_json, read_object, write_atomic
from reconciler.loops.exits.overlay import Held, Placed, overlay
from reconciler.loops.exits.providers.base import Registration, checked
from reconciler.state.keys import EXIT, EXITS, KeyFileError, ensure_file
from schema.plan import Exit, Resource, SecretRef
from schema.plan.exits import NAME

FOLDER = EXITS


@dataclass(frozen=True, slots=True)
class Kept:
    """The last state of a tunnel on a device."""

    dev: str
    session: Registration
    carrying: bool
    baseline: float | None


_KEPT = TypeAdapter(Kept)


def is_name(text: str) -> bool:
    """Whether a text is a valid name of an exit, and so of its folder."""
    return re.fullmatch(NAME, text) is not None


class Memory:
    """The folder of one exit in the agent's state."""

    def __init__(self, state: Path, name: str) -> None:
        self.folder = state / FOLDER / name
        self.name = name

    def public_key(self) -> str:
        """The public key of the exit's private key, which is created if missing. Raises OSError."""
        try:
            return ensure_file(self.folder / "private.key")[0]
        except KeyFileError as error:
            raise OSError(str(error)) from None

    def key(self, exit: Exit) -> SecretRef:
        """The private key of an exit's tunnels: the plan's, otherwise the exit's own. Raises OSError."""
        return exit.key or SecretRef(secret=EXIT + self.name, fingerprint=self.public_key())

    def tunnels(self) -> tuple[list[Kept], str | None]:
        """The stored tunnels, and the gateway that a person chose. Unusable entries are left out."""
        try:
            value = read_object(self.folder / "tunnels.json")[0] or {}
        except OSError:
            return [], None
        tunnels, pinned = value.get("tunnels"), value.get("pinned")
        kept = [_kept(one) for one in tunnels] if isinstance(tunnels, list) else []
        return [one for one in kept if one is not None], pinned if isinstance(pinned, str) else None

    def keep(self, tunnels: Iterable[Kept], pinned: str | None) -> None:
        """Store the tunnels and the chosen gateway. Raises OSError."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        value = {"tunnels": [asdict(one) for one in tunnels], "pinned": pinned}
        write_atomic(self.folder / "tunnels.json", dump_json(value))


def _kept(value: object) -> Kept | None:
    try:
        kept = _KEPT.validate_python(value)
        return replace(kept, session=checked(kept.session))
    except ValueError:
        return None


def remembered(state: Path, exits: Sequence[Exit]) -> list[Resource]:
    """The resources that these exits' tunnels need, as far as they are known, before anything is restored.

    Unusable entries are left out, because an agent must start whatever the file contains.
    """
    found = []
    for exit in exits:
        memory = Memory(state, exit.name)
        slots = {slot.dev: slot for slot in exit.slots}
        placed = [Placed(slots[k.dev], k.session, k.carrying) for k in memory.tunnels()[0] if k.dev in slots]
        if placed:
            with suppress(OSError):
                found.append(Held(exit, memory.key(exit), placed))
    return overlay(found)
