"""Verifies every new commit against signers that are pinned on this host.

git's own `verify-commit` judges an SSH key's expiry by the committer's date. So this module calls the tools that git
would call, with this host's clock.
"""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from reconciler.base.errors import Stalled, Transient
from reconciler.sources.git import Clone
from reconciler.sources.signature import SignatureProblem, Signed, judge_gpg, split
from reconciler.state.store import Confirmed

TIMEOUT = 30.0
MAX_COMMITS = 10_000


@dataclass(frozen=True, slots=True)
class Signers:
    """Files on this host, never in the repository."""

    allowed_signers: Path | None = None
    """SSH signers in the format of ssh-keygen(1), ALLOWED SIGNERS."""
    revoked: Path | None = None
    """A key revocation list or a file of public keys, ssh-keygen(1)."""
    openpgp: Path | None = None
    """Public keys, armoured or not, as `gpg --export` writes them."""
    history: Literal["all", "first-parent"] = "all"
    """Which commits between the confirmed one and the new one must be signed."""


class Verifier:
    """Verifies commits of a mirror. All its errors are of the condition Verified."""

    def __init__(self, mirror: Clone, signers: Signers, clock: Callable[[], float] = time.time) -> None:
        self.mirror, self.signers, self.clock = mirror, signers, clock

    def check(self, commit: str, confirmed: Confirmed | None, accepted: str | None) -> None:
        """Raises Stalled if a commit must not be applied.

        Every commit since the confirmed one must be signed, and this one must descend from it. After a first clone, and
        for a commit that was accepted by name on this host, only the commit itself is checked.
        """
        base = confirmed.commit if confirmed and commit != accepted else None
        if base == commit:
            return
        if base and not self.mirror.descends(commit, base):
            raise Stalled("Verified", "NotDescendant", _not_descendant(commit, base))
        wanted = self.mirror.between(base, commit, self.signers.history == "first-parent") if base else [commit]
        if len(wanted) > MAX_COMMITS:
            raise Stalled("Verified", "TooMany", f"{len(wanted)} commits since {base}: `gitwan agent accept {commit}`")
        # A clock that was set back must not make an expired key valid again.
        now = max(self.clock(), confirmed.time if confirmed else 0.0)
        for one in wanted:
            try:
                self._signature(split(self.mirror.raw_commit(one)), now)
            except SignatureProblem as problem:
                where = "" if one == commit else f", which {commit[:7]} builds on"
                raise Stalled("Verified", problem.reason, f"commit {one[:7]}{where}: {problem.message}") from None

    def _signature(self, signed: Signed, now: float) -> str:
        if signed.scheme == "ssh" and self.signers.allowed_signers:
            return self._ssh(signed, self.signers.allowed_signers, now)
        if signed.scheme == "openpgp" and self.signers.openpgp:
            return self._openpgp(signed, self.signers.openpgp, now)
        raise SignatureProblem("UnknownSigner", f"no {signed.scheme} signers are pinned on this host")

    def _ssh(self, signed: Signed, signers: Path, now: float) -> str:
        _readable(signers)
        with tempfile.NamedTemporaryFile() as file:
            file.write(signed.signature)
            file.flush()
            common = ["-f", str(signers), "-s", file.name]
            moment = f"-Overify-time={time.strftime('%Y%m%d%H%M%SZ', time.gmtime(now))}"
            names = _run(["ssh-keygen", "-Y", "find-principals", *common, moment])
            if names.returncode:
                if not _pinned(signers, signed, file.name):
                    raise SignatureProblem("UnknownSigner", "it is signed by somebody who is not pinned on this host")
                raise SignatureProblem("Expired", "it is signed with a key that is not valid now")
            for name in names.stdout.decode(errors="replace").splitlines():
                verify = ["ssh-keygen", "-Y", "verify", *common, "-I", name, "-n", "git", moment]
                if self._revoked(verify, signed.payload):
                    raise SignatureProblem("Revoked", f"it is signed with a key of {name} that was revoked")
                if _run(verify, signed.payload).returncode == 0:
                    return name
        raise SignatureProblem("BadSignature", "its signature does not fit its content")

    def _revoked(self, verify: Sequence[str], payload: bytes) -> bool:
        if self.signers.revoked is None:
            return False
        _readable(self.signers.revoked)
        return bool(_run([*verify, "-r", str(self.signers.revoked)], payload).returncode) and not bool(
            _run(verify, payload).returncode
        )

    def _openpgp(self, signed: Signed, keys: Path, now: float) -> str:
        _readable(keys)
        with tempfile.TemporaryDirectory(prefix="gitwan-") as home:
            gpg = ["gpg", "--homedir", home, "--batch", "--no-tty", "--quiet", "--no-autostart"]
            imported = _run([*gpg, "--import", str(keys)])
            if imported.returncode:
                raise SignatureProblem("UnknownSigner", f"{keys} holds no OpenPGP keys")
            signature = Path(home) / "signature"
            signature.write_bytes(signed.signature)
            moment = ["--faked-system-time", str(int(now))] if now > time.time() + 1 else []
            verify = [*gpg, *moment, "--trust-model", "always", "--status-fd", "1", "--verify", str(signature), "-"]
            return judge_gpg(_run(verify, signed.payload).stdout.decode(errors="replace"))


def _pinned(signers: Path, signed: Signed, signature: str) -> bool:
    """Whether the signer's key is in the file, whatever its dates."""
    checked = _run(["ssh-keygen", "-Y", "check-novalidate", "-n", "git", "-s", signature], signed.payload)
    words = checked.stdout.decode(errors="replace").split()
    fingerprint = next((word for word in words if word.startswith("SHA256:")), None)
    if checked.returncode or fingerprint is None:
        raise SignatureProblem("BadSignature", "its signature does not fit its content")
    with tempfile.NamedTemporaryFile("w") as keys:
        for line in signers.read_text(errors="replace").splitlines():
            parts = line.split()
            start = next((i for i, part in enumerate(parts) if part.startswith(("ssh-", "ecdsa-", "sk-"))), None)
            if start is not None and not line.lstrip().startswith("#"):
                keys.write(" ".join(parts[start : start + 2]) + "\n")
        keys.flush()
        listed = _run(["ssh-keygen", "-l", "-f", keys.name]).stdout.decode(errors="replace")
    return fingerprint in listed.split()


def _run(command: Sequence[str], stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(
            command, input=stdin, capture_output=True, check=False, timeout=TIMEOUT, start_new_session=True
        )
    except FileNotFoundError:
        raise Transient("Verified", "NoTool", f"{command[0]} is not installed on this host") from None
    except subprocess.TimeoutExpired:
        raise Transient("Verified", "Timeout", f"{command[0]} did not answer within {TIMEOUT:g} s") from None


def _readable(path: Path) -> None:
    try:
        path.open("rb").close()
    except OSError as error:
        raise Transient("Verified", "SignersUnreadable", f"cannot read {path}: {error.strerror}") from None


def _not_descendant(commit: str, base: str) -> str:
    return (
        f"{commit[:7]} does not build on {base[:7]}, which is confirmed here: history was rewritten or set back; "
        f"`gitwan agent accept {commit}` on this host allows it"
    )
