"""Plans that CI rendered into a folder of this host: `<folder>/<host>/plan.json`, and ciphertexts in `secrets`."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from pydantic import ValidationError

from reconciler.base.errors import Stalled, Transient
from schema.plan import HostPlan

MAX_PLAN = 64 << 20


@dataclass(frozen=True, slots=True)
class RenderedFolder:
    """A folder that another program keeps up to date. Its commits are digests of its content."""

    folder: Path
    host: str

    @property
    def name(self) -> str:
        return self.folder.name

    def fetch(self) -> str:
        return blake2b(self._read(), digest_size=20).hexdigest()

    def plan(self, commit: str) -> tuple[HostPlan, str]:
        data = self._read()
        if blake2b(data, digest_size=20).hexdigest() != commit:
            raise Transient("Compiled", "PlanChanged", f"{self._path} changed while it was read")
        return parse(data, str(self._path)), ""

    def sealed(self, commit: str, name: str) -> bytes | None:
        try:
            return (self._path.parent / "secrets" / f"{name}.age").read_bytes()
        except OSError:
            return None

    @property
    def _path(self) -> Path:
        return self.folder / self.host / "plan.json"

    def _read(self) -> bytes:
        try:
            with self._path.open("rb") as file:
                data = file.read(MAX_PLAN + 1)
        except OSError as error:
            raise Transient("Fetched", "PlanUnreadable", f"cannot read {self._path}: {error.strerror}") from error
        if len(data) > MAX_PLAN:
            raise Stalled("Fetched", "TooLarge", f"{self._path} is larger than {MAX_PLAN >> 20} MiB")
        return data


def parse(data: bytes, where: str) -> HostPlan:
    """Parse a plan from JSON. Raises Stalled (Compiled) with the first problem."""
    try:
        return HostPlan.parse(data)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise Stalled("Compiled", "PlanInvalid", f"{where}: {place}: {first['msg']}") from None
