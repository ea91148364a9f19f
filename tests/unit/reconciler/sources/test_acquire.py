from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import pytest

from reconciler.base.errors import CycleError, Stalled, Transient
from reconciler.report.report import Candidate
from reconciler.sources.acquire import Acquirer
from reconciler.state.commits import Rejected
from reconciler.state.store import Confirmed, Store
from schema.plan import HostPlan, Peer, SecretRef
from tests.unit.reconciler.worlds import key


@dataclass
class Scripted:
    """A source that says what it is told to."""

    commit: str = "c1"
    host: str = "h1"
    error: CycleError | None = None
    compiled: list[str] = field(default_factory=list)
    name: str = "wan"

    def fetch(self) -> str:
        if self.error and self.error.condition == "Fetched":
            raise self.error
        return self.commit

    def plan(self, commit: str) -> tuple[HostPlan, str]:
        self.compiled.append(commit)
        if self.error:
            raise self.error
        return HostPlan(host=self.host), "a note"


@pytest.fixture
def source() -> Scripted:
    return Scripted()


@pytest.fixture
def acquirer(tmp_path: Path, source: Scripted) -> Acquirer:
    store = Store(tmp_path)
    store.open()
    return Acquirer(host="h1", store=store, source=source)


def confirm(store: Store, commit: str) -> None:
    found = Candidate.of(commit, HostPlan(host="h1"))
    store.save_plan(found.digest, found.data)
    store.prepare(Confirmed(found.digest, commit, 1.0))
    store.confirm(Confirmed(found.digest, commit, 1.0))


def test_a_new_commit_is_compiled_once(acquirer: Acquirer, source: Scripted) -> None:
    first, second = acquirer.acquire(), acquirer.acquire()
    assert first.candidate is second.candidate is not None
    assert (second.note, source.compiled) == ("a note", ["c1"])


def test_a_confirmed_commit_is_not_compiled(acquirer: Acquirer, source: Scripted) -> None:
    confirm(acquirer.store, "c1")
    got = acquirer.acquire()
    assert (got.commit, got.candidate, got.error, source.compiled) == ("c1", None, None, [])


def test_a_rejected_commit_is_not_tried_until_it_is_forgotten(acquirer: Acquirer, source: Scripted) -> None:
    acquirer.store.commits.reject(Rejected("c1", "Refused", "no", 1.0))
    assert acquirer.acquire().rejected
    acquirer.retry()
    assert acquirer.acquire().candidate


def test_what_does_not_compile_is_not_tried_again(acquirer: Acquirer, source: Scripted) -> None:
    source.error = Stalled("Compiled", "Problems", "a.yaml")
    assert acquirer.acquire().compile_error is acquirer.acquire().compile_error is source.error
    assert source.compiled == ["c1"]
    source.commit = "c2"
    acquirer.acquire()
    assert source.compiled == ["c1", "c2"]


def test_what_may_pass_is_tried_again(acquirer: Acquirer, source: Scripted) -> None:
    source.error = Transient("Compiled", "CompilerMissing", "no")
    acquirer.acquire()
    source.error = None
    assert acquirer.acquire().candidate


def test_no_answer_from_git(acquirer: Acquirer, source: Scripted) -> None:
    source.error = Transient("Fetched", "Timeout", "no answer")
    got = acquirer.acquire()
    assert got.fetch_error is source.error and got.commit is None


def test_another_hosts_plan_is_refused(acquirer: Acquirer, source: Scripted) -> None:
    source.host = "h2"
    error = acquirer.acquire().compile_error
    assert error and error.reason == "WrongHost"


def test_stages_in_order(tmp_path: Path, source: Scripted) -> None:
    stages: list[str] = []
    Acquirer(host="h1", store=Store(tmp_path), source=source, on_stage=stages.append).acquire()
    assert stages == ["fetch", "verify", "compile_plan"]


PSK = SecretRef(secret="between", fingerprint="f")
WANTS = HostPlan.of("h1", [Peer(dev="wg0", public_key=key(1), preshared_key=PSK)])


class Vault(Scripted):
    """A source with ciphertexts beside its plans."""

    ciphertexts: ClassVar[dict[str, bytes]] = {"between": b"sealed"}

    def plan(self, commit: str) -> tuple[HostPlan, str]:
        return WANTS, ""

    def sealed(self, commit: str, name: str) -> bytes | None:
        return self.ciphertexts.get(name)


def with_secrets(folder: Path, source: Scripted, error: Exception | None = None) -> Acquirer:
    def opened(reference: SecretRef) -> bytes:
        assert reference == PSK
        if error:
            raise error
        return b"opened"

    store = Store(folder)
    store.open()
    return Acquirer(host="h1", store=store, source=source, open_secret=opened)


def test_ciphertexts_are_kept_with_the_plan_before_anything_is_touched(tmp_path: Path) -> None:
    acquirer = with_secrets(tmp_path, Vault())
    got = acquirer.acquire()
    assert got.candidate is not None and acquirer.store.sealed(PSK) == [b"sealed"]
    acquirer.store.save_plan(got.candidate.digest, got.candidate.data)
    acquirer.store.prepare(Confirmed(got.candidate.digest, "c1", 1.0))
    acquirer.store.confirm(Confirmed(got.candidate.digest, "c1", 1.0))
    assert acquirer.store.sealed(PSK) == [b"sealed"]
    confirm(acquirer.store, "c2")
    assert acquirer.store.sealed(PSK) == [], "and go with it"


def test_a_secret_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Vault, "ciphertexts", {})
    for source in (Vault(), Scripted()):
        monkeypatch.setattr(Scripted, "plan", lambda self, commit: (WANTS, ""))
        error = with_secrets(tmp_path, source).acquire().compile_error
        assert isinstance(error, Transient)
        assert (error.reason, error.message) == ("SecretMissing", "secrets/between.age is not in c1")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ValueError("the secret between is not encrypted to /etc/gitwan/age.key"), "not encrypted to /etc/gitwan/age"),
        (FileNotFoundError(2, "No such file", "/etc/gitwan/age.key"), "between: No such file: /etc/gitwan/age.key"),
        (PermissionError("age.key may be read by others"), "may be read by others"),
    ],
)
def test_a_secret_that_this_host_cannot_open_stops_the_commit(tmp_path: Path, error: Exception, message: str) -> None:
    """It is tried again: somebody may put the right identity there."""
    acquirer = with_secrets(tmp_path, Vault(), error)
    found = acquirer.acquire().compile_error
    assert isinstance(found, Transient) and found.reason == "SecretUnusable" and message in found.message
    acquirer.open_secret = lambda reference: b"opened"
    assert acquirer.acquire().candidate is not None
