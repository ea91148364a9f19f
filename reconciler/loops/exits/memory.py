"""What an exit's tunnels are, kept over restarts: so that nothing is connected anew, and no key is ever another.

exits/NAME/private.key    the exit's private key, made here
exits/NAME/tunnels.json   which gateways its devices lead to
exits/NAME/*.json         what its provider keeps (`providers/cache.py`)
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
    """A tunnel on a device, as it was last."""

    dev: str
    session: Registration
    carrying: bool
    baseline: float | None


_KEPT = TypeAdapter(Kept)


def is_name(text: str) -> bool:
    """Whether an exit can be called so, and thus its folder."""
    return re.fullmatch(NAME, text) is not None


class Memory:
    """The folder of one exit in the agent's state."""

    def __init__(self, state: Path, name: str) -> None:
        self.folder = state / FOLDER / name
        self.name = name

    def public_key(self) -> str:
        """Of the exit's private key, which is made where there is none. Raises OSError."""
        try:
            return ensure_file(self.folder / "private.key")[0]
        except KeyFileError as error:
            raise OSError(str(error)) from None

    def key(self, exit: Exit) -> SecretRef:
        """The private key of an exit's tunnels: what the plan names, else the exit's own. Raises OSError."""
        return exit.key or SecretRef(secret=EXIT + self.name, fingerprint=self.public_key())

    def tunnels(self) -> tuple[list[Kept], str | None]:
        """What was kept, and the gateway that a person chose. What no tunnel can be made of is left out."""
        try:
            value = read_object(self.folder / "tunnels.json")[0] or {}
        except OSError:
            return [], None
        tunnels, pinned = value.get("tunnels"), value.get("pinned")
        kept = [_kept(one) for one in tunnels] if isinstance(tunnels, list) else []
        return [one for one in kept if one is not None], pinned if isinstance(pinned, str) else None

    def keep(self, tunnels: Iterable[Kept], pinned: str | None) -> None:
        """Raises OSError."""
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
    """What the tunnels of these exits need in the kernel, as far as they are known: before anything is restored.

    An agent has to start whatever stands there, so what is of no use is left out.
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
