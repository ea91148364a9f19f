"""The files of the simulated providers: pinned files, certificates, signed lists, keys. Created once, before they
start."""

from __future__ import annotations

import base64
import json
from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from lab.provider import pia
from lab.provider.authority import Authority, Signer
from lab.provider.places import API_NAMES, Gate, gates_of
from reconciler.loops.exits.providers.build import AUTHORITY, PROVIDER_KEY
from reconciler.system.wg_key import generate_private, public_key


@dataclass(frozen=True, slots=True)
class Files:
    """The paths of the files."""

    folder: Path

    @property
    def pia(self) -> Path:
        """The folder of the files that a host pins for PIA."""
        return self.folder / "pia"

    @property
    def authority(self) -> Path:
        """The CA of all simulated providers. It also replaces the CAs that the system trusts."""
        return self.pia / AUTHORITY

    def list(self, name: str) -> Path:
        """PIA's signed list, `good` or `bad`."""
        return self.folder / f"list.{name}"

    def key(self, gate: Gate) -> Path:
        return self.folder / f"{gate.server}.key"

    def public(self, gate: Gate) -> str:
        return public_key(base64.b64decode(self.key(gate).read_text()))

    def certificate(self, name: str, fault: str = "") -> Path:
        """A server's certificate and key: the valid one, or the one with this fault."""
        return self.folder / f"{name}{f'.{fault}' if fault else ''}.pem"


def make(files: Files, kinds: Collection[str]) -> None:
    """Write the files. The private keys belong to the lab, and are removed with its folder."""
    files.pia.mkdir(parents=True, mode=0o700)
    authority = Authority()
    files.authority.write_text(authority.pem)
    gates = gates_of(kinds)
    _lists(files, [gate for gate in gates if gate.kind == "pia"])
    for gate in gates:
        files.key(gate).write_text(base64.b64encode(generate_private()).decode() + "\n")
        if gate.kind == "pia":
            for name in (gate.server, pia.meta_name(gate)):
                _certificates(files, authority, name, ())
    for kind, names in API_NAMES.items():
        if kind in kinds:
            _certificates(files, authority, f"{kind}-api", names)


def _certificates(files: Files, authority: Authority, name: str, names: tuple[str, ...]) -> None:
    files.certificate(name).write_text(authority.issue(name, names))
    files.certificate(name, "other-name").write_text(authority.issue("somebody-else"))
    files.certificate(name, "not-yet-valid").write_text(authority.issue(name, names, starts=timedelta(days=1)))


def _lists(files: Files, gates: list[Gate]) -> None:
    data = json.dumps(pia.document(gates)).encode()
    signer = Signer()
    (files.pia / PROVIDER_KEY).write_text(signer.pem)
    files.list("good").write_bytes(signer.signed(data))
    files.list("bad").write_bytes(Signer().signed(data))
