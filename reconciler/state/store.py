"""The agent's state folder: the confirmed plan, other plans, and the last status.

plans/<digest>.json   plans by digest, so that the name verifies the content
plans/<digest>.age    the ciphertexts that the plan needs, by name and fingerprint
confirmed.json        digest, commit and time of the last confirmed plan; confirmed.bak.json is a second copy
next.json             the same for the plan being applied; becomes confirmed.json
journal.json          exists while the kernel may be between two plans (`journal.py`)
accepted.json, interrupted.json, rejected.json    what is known of other commits (`commits.py`)
suspended.json        end and reason of a suspension (`suspension.py`)
status.json           the last status
services/             daemons that gitwan runs: their configurations and pid files (`system/service.py`)
lock                  held by the one process that works with this folder
"""

from __future__ import annotations

import fcntl
import os
import shutil
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from reconciler.base.errors import Busy, Stalled
from reconciler.base.files import dump_json, read_object, remove, set_aside, sync_folder, write_atomic
from reconciler.state import journal as journals
from reconciler.state.commits import Commits
from reconciler.state.journal import Journal
from reconciler.state.keys import OWN
from reconciler.state.suspension import Suspensions
from schema.plan import HostPlan, Peer, SecretRef, Wireguard


@dataclass(frozen=True, slots=True)
class Confirmed:
    """A confirmed plan, its commit, and the time of confirmation in seconds since the epoch."""

    digest: str
    commit: str
    time: float


class Store:
    """Reads and writes the folder. Writing raises OSError; a corrupt file is set aside when it is read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.plans = folder / "plans"
        self.journal_file = folder / "journal.json"
        self._lock: int | None = None
        self.commits = Commits(folder)
        self.suspensions = Suspensions(folder)

    def open(self) -> None:
        """Create the folder if missing. Raises OSError."""
        self.plans.mkdir(parents=True, exist_ok=True, mode=0o700)

    def lock(self) -> None:
        """Become the only writer. Raises Busy if another process is, OSError if the folder cannot be written."""
        self.open()
        descriptor = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise Busy(f"another agent works with {self.folder}") from None
        self._lock = descriptor

    def unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    # Plans

    def save_plan(self, digest: str, data: bytes) -> None:
        """Store a canonical plan durably under its digest. Raises OSError."""
        path = self.plans / f"{digest}.json"
        if not path.exists():
            write_atomic(path, data)

    def plan_in_force(self) -> HostPlan | None:
        """The confirmed plan; None on a new host. Raises Stalled if it is lost."""
        confirmed = self.confirmed()
        return self.load_plan(confirmed.digest) if confirmed else None

    def load_plan(self, digest: str) -> HostPlan:
        """A stored plan. Raises Stalled if it is missing or does not match its digest; then it is set aside."""
        path = self.plans / f"{digest}.json"
        try:
            data = path.read_bytes()
            if digest_of(data) != digest:
                raise ValueError("its contents do not match its name")
            return HostPlan.parse(data)
        except (OSError, ValidationError, ValueError) as error:
            if not isinstance(error, OSError):
                set_aside(path)
            said = "" if isinstance(error, ValidationError) else f": {error}"
            raise Stalled("Confirmed", "PlanLost", f"the confirmed plan {digest} cannot be read{said}") from None

    # Ciphertexts; decrypted values are never written

    def save_sealed(self, digest: str, secrets: Mapping[SecretRef, bytes]) -> None:
        """Store the ciphertexts that a plan needs, durably. Raises OSError."""
        value = {_sealed_key(reference): b64encode(data).decode() for reference, data in secrets.items()}
        data = dump_json(value)
        path = self.plans / f"{digest}.age"
        if not path.exists() or path.read_bytes() != data:
            write_atomic(path, data)

    def sealed(self, reference: SecretRef) -> list[bytes]:
        """The ciphertexts of a secret in all stored plans. Raises OSError."""
        found = []
        for path in sorted(self.plans.glob("*.age")):
            text = (read_object(path)[0] or {}).get(_sealed_key(reference))
            if isinstance(text, str):
                found.append(b64decode(text))
        return found

    # What was confirmed

    def confirmed(self) -> Confirmed | None:
        """The last confirmed plan; None on a new host. Raises Stalled if it is known to be lost."""
        lost = False
        for name in ("confirmed.json", "confirmed.bak.json"):
            value, corrupt = read_object(self.folder / name)
            lost |= corrupt or (self.folder / f"{name}.corrupt").exists()
            try:
                if value is not None:
                    return Confirmed(str(value["digest"]), str(value["commit"]), float(value["time"]))
            except (KeyError, TypeError, ValueError):
                set_aside(self.folder / name)
                lost = True
        if lost:
            raise Stalled("Confirmed", "StateLost", f"what was confirmed cannot be read in {self.folder}")
        return None

    def confirmed_or_none(self) -> Confirmed | None:
        """Like `confirmed`, but None also where it is lost."""
        try:
            return self.confirmed()
        except Stalled:
            return None

    def prepare(self, confirmed: Confirmed) -> None:
        """Write what `confirm` will need, so that confirming needs no disk space. Raises OSError."""
        write_atomic(self.folder / "next.json", dump_json(asdict(confirmed)))

    def confirm(self, confirmed: Confirmed) -> None:
        """Make the prepared plan the one to return to, end the journal, and delete older plans. Raises OSError."""
        (self.folder / "next.json").replace(self.folder / "confirmed.json")
        sync_folder(self.folder)
        for name in ("confirmed.json.corrupt", "confirmed.bak.json.corrupt"):
            (self.folder / name).unlink(missing_ok=True)
        journals.clear(self.journal_file)
        try:
            write_atomic(self.folder / "confirmed.bak.json", dump_json(asdict(confirmed)))
        except OSError:
            pass  # only a second copy; the first is on disk
        self._prune({confirmed.digest})

    def forget_confirmed(self) -> None:
        """Forget the confirmed plan, because the host is being given back."""
        for name in ("confirmed.json", "confirmed.bak.json", "next.json", "rejected.json"):
            remove(self.folder / name)
        for name in ("confirmed.json.corrupt", "confirmed.bak.json.corrupt"):
            (self.folder / name).unlink(missing_ok=True)

    def wipe(self) -> None:
        """After the host was given back, delete the files that the agent can do without. Best effort."""
        for folder in ("plans", "repo.git", "services"):
            shutil.rmtree(self.folder / folder, ignore_errors=True)
        (self.folder / "status.json").unlink(missing_ok=True)

    def _prune(self, keep: set[str]) -> None:
        for path in (*self.plans.glob("*.json"), *self.plans.glob("*.age")):
            if path.stem not in keep:
                path.unlink(missing_ok=True)

    # The journal

    def journal(self) -> Journal | None:
        return journals.read(self.journal_file)

    def begin(self, entry: Journal) -> None:
        journals.write(self.journal_file, entry)

    def end(self) -> None:
        journals.clear(self.journal_file)

    # Status

    def write_status(self, status: dict[str, Any]) -> None:
        write_atomic(self.folder / "status.json", dump_json(status), durable=False, mode=0o644)

    def status(self) -> dict[str, Any] | None:
        try:
            return read_object(self.folder / "status.json")[0]
        except OSError:
            return None


def secrets_of(plan: HostPlan) -> list[SecretRef]:
    """The secrets that a plan needs besides the host's own key, sorted."""
    references = {r.private_key for r in plan.resources if isinstance(r, Wireguard)}
    references |= {r.preshared_key for r in plan.resources if isinstance(r, Peer) and r.preshared_key}
    references |= {exit.credentials for exit in plan.runtime.exits or () if exit.credentials}
    return sorted((r for r in references if r.secret != OWN), key=_sealed_key)


def _sealed_key(reference: SecretRef) -> str:
    return f"{reference.secret} {reference.fingerprint}"


def digest_of(data: bytes) -> str:
    """The digest of a canonical plan, as `HostPlan.digest` computes it."""
    return blake2b(data, digest_size=16).hexdigest()
