"""The first half of a cycle: fetch -> verify -> compile_plan. It may be slow, and does not change the network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from reconciler.base.errors import CycleError, Stalled, Transient
from reconciler.report.report import Acquired, Candidate
from reconciler.sources.base import Keeps, Source
from reconciler.state.store import Confirmed, Store, secrets_of
from schema.plan import SecretRef


class Verifies(Protocol):
    """Decides whether a commit may be applied: `sources/verify.py`."""

    def check(self, commit: str, confirmed: Confirmed | None, accepted: str | None) -> None:
        """Raises Stalled or Transient (Verified) if the commit must not be applied."""
        ...


class Acquirer:
    """Gets candidates from a source. It may run in another thread than the engine."""

    def __init__(
        self,
        *,
        host: str,
        store: Store,
        source: Source,
        verifier: Verifies | None = None,
        on_stage: Callable[[str], None] = lambda name: None,
        open_secret: Callable[[SecretRef], bytes] | None = None,
    ) -> None:
        self.host = host
        self.store = store
        self.source = source
        self.verifier = verifier
        self.on_stage = on_stage
        self.open_secret = open_secret
        self._compiled: Candidate | None = None
        self._note = ""
        self._failed: tuple[str, Stalled] | None = None

    def acquire(self) -> Acquired:
        """Fetch, and compile if the commit is new. Failures are part of the result."""
        got = Acquired()
        try:
            for stage in (self.fetch, self.verify, self.compile_plan):
                self.on_stage(stage.__name__)
                stage(got)
        except CycleError as error:
            if error.condition == "Fetched":
                got.fetch_error = error
            elif error.condition == "Verified":
                got.verify_error = error
            else:
                got.compile_error = error
        if got.candidate is None:
            self._compiled = None
        return got

    def fetch(self, got: Acquired) -> None:
        got.commit = self.source.fetch()

    def verify(self, got: Acquired) -> None:
        """Verify the commit before any of its files is read."""
        assert got.commit is not None
        got.verified = self.verifier is not None
        if self.verifier is not None:
            self.verifier.check(got.commit, self.store.confirmed_or_none(), self.store.commits.accepted())

    def compile_plan(self, got: Acquired) -> None:
        """Compile, unless the commit is confirmed, was rejected, or did not compile before."""
        commit = got.commit
        assert commit is not None
        if commit == self._confirmed():
            return
        got.rejected = self.store.commits.rejected().get(commit)
        if got.rejected is not None:
            return
        if self._failed and self._failed[0] == commit:
            raise self._failed[1]
        if self._compiled is None or self._compiled.commit != commit:
            self._compiled = self._compile(commit)
        got.candidate, got.note = self._compiled, self._note

    def retry(self) -> None:
        """Forget rejected commits and failed compilations. Raises OSError."""
        self._failed = None
        self.store.commits.forget_rejected()

    def _compile(self, commit: str) -> Candidate:
        try:
            plan, self._note = self.source.plan(commit)
            if plan.host != self.host:
                raise Stalled("Compiled", "WrongHost", f"the plan is for {plan.host}, and this host is {self.host}")
        except Stalled as error:
            self._failed = (commit, error)
            raise
        candidate = Candidate.of(commit, plan)
        self._keep_secrets(candidate)
        return candidate

    def _keep_secrets(self, candidate: Candidate) -> None:
        """Store the ciphertexts beside the plan, and check that this host can open them before anything is changed."""
        wanted = secrets_of(candidate.plan)
        if not wanted:
            return
        found: dict[SecretRef, bytes] = {}
        for reference in wanted:
            ciphertext = None
            if isinstance(self.source, Keeps):
                ciphertext = self.source.sealed(candidate.commit, reference.secret)
            if ciphertext is None:
                text = f"secrets/{reference.secret}.age is not in {candidate.commit[:7]}"
                raise Transient("Compiled", "SecretMissing", text)
            found[reference] = ciphertext
        try:
            self.store.save_sealed(candidate.digest, found)
        except OSError as error:
            text = f"cannot write {self.store.folder}: {error.strerror}"
            raise Transient("Compiled", "StateUnwritable", text) from error
        for reference in wanted:
            self._openable(reference)

    def _openable(self, reference: SecretRef) -> None:
        if self.open_secret is None:
            return
        try:
            self.open_secret(reference)
        except (LookupError, ValueError) as error:
            raise Transient("Compiled", "SecretUnusable", str(error)) from None
        except OSError as error:
            why = f"{error.strerror}: {error.filename}" if error.strerror else str(error)
            raise Transient("Compiled", "SecretUnusable", f"the secret {reference.secret}: {why}") from None

    def _confirmed(self) -> str | None:
        known = self.store.confirmed_or_none()
        return known.commit if known else None
