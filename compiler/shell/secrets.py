"""The secrets of a repository: which hosts need each secret, and to whom it is encrypted. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from compiler.stages import STAGES, resolve
from schema.desired import Documents, Secret
from schema.load import load
from schema.problem import Place, Problem, Problems


@dataclass(frozen=True, slots=True)
class Shelf:
    """The secrets of a repository."""

    desired: Documents
    needs: Mapping[str, Iterable[str]]
    """Name of a secret -> hosts that need it."""

    @classmethod
    def of(cls, files: Mapping[str, bytes]) -> Shelf:
        """The secrets of these files. Ignores problems with secrets. Raises Problems for any other problem."""
        desired, problems = load(files)
        if any(problem.severity == "error" for problem in problems):
            raise Problems(problems)
        fabric = resolve(desired, STAGES[:-1])
        return cls(desired, {name: sorted(hosts) for name, hosts in fabric.needs.items()})

    @property
    def secrets(self) -> dict[str, Secret]:
        return {doc.model.secret: doc.model for doc in self.desired.secrets}

    def known(self, name: str) -> Secret:
        """A secret by its name. Raises Problems if it does not exist."""
        if name not in self.secrets:
            hint = f"there are: {', '.join(sorted(self.secrets)) or 'none'}"
            raise Problems([Problem("GW080", Place(f"secrets/{name}.yaml"), f"there is no secret {name!r}", hint)])
        return self.secrets[name]

    def recipients(self, name: str, more: Iterable[str] = ()) -> dict[str, str]:
        """The recipients for a secret: the hosts that need it, the holders in `more`, and all people.

        If nothing uses the secret, its current hosts stay. Raises Problems for a host without a recipient, and if there
        is no recipient at all.
        """
        wanted = {*self.needs.get(name, ()), *more}
        if not wanted and name in self.secrets:
            wanted = {holder for holder in self.secrets[name].recipients if holder in self.desired.recipients}
        wanted |= {holder for holder in self.desired.recipients if holder.startswith("people/")}
        missing = sorted(wanted - self.desired.recipients.keys())
        if missing or not wanted:
            path = f"keys/{missing[0]}.age" if missing else "keys"
            what = f"{missing[0]} has no recipient" if missing else "nobody is there to encrypt to"
            hint = "`gitwan keys recipient` on a host prints its own; people's stand in keys/people/NAME.age"
            hint = hint if missing else f"name a host that it is for with --for HOST; {hint}"
            raise Problems([Problem("GW083", Place(path), what, hint)])
        return {holder: self.desired.recipients[holder][1] for holder in sorted(wanted)}

    def stale(self, name: str) -> list[str]:
        """Holders that a secret is encrypted to but should not be, or the reverse."""
        now, want = self.secrets[name].recipients, set(self.needs.get(name, ()))
        known = {holder: key for holder, (_, key) in self.desired.recipients.items()}
        return sorted((want - now.keys()) | {holder for holder in now if now[holder] != known.get(holder)})


def sidecar(secret: Secret) -> str:
    """The clear-text file beside a ciphertext."""
    lines = [f"secret: {secret.secret}", f"kind: {secret.kind}", f"fingerprint: {secret.fingerprint}"]
    lines += [f'digest: "{secret.digest}"', "recipients:"]
    lines += [f"  {holder}: {recipient}" for holder, recipient in sorted(secret.recipients.items())]
    return "\n".join(lines) + "\n"
