from __future__ import annotations

import os
from pathlib import Path

import pytest

from reconciler.base.errors import Busy, Stalled
from reconciler.state.commits import KEEP_REJECTED, Rejected
from reconciler.state.journal import Journal
from reconciler.state.store import Confirmed, Store, secrets_of
from schema.plan import HostPlan, Peer, Runtime, SecretRef, Wireguard
from tests.unit.reconciler.loops.exits.samples import an_exit as sample_exit
from tests.unit.reconciler.worlds import site

PLAN = HostPlan.of("h1", site())


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path)
    store.open()
    return store


def confirm(store: Store, plan: HostPlan = PLAN, commit: str = "c1") -> Confirmed:
    confirmed = Confirmed(plan.digest, commit, 1.0)
    store.save_plan(plan.digest, plan.canonical())
    store.prepare(confirmed)
    store.confirm(confirmed)
    return confirmed


def test_nothing_is_confirmed_on_a_new_host(store: Store) -> None:
    assert store.confirmed() is None


def test_what_was_confirmed_comes_back(store: Store) -> None:
    confirmed = confirm(store)
    assert store.confirmed() == confirmed
    assert store.load_plan(confirmed.digest) == PLAN


def test_older_plans_go(store: Store) -> None:
    confirm(store)
    confirm(store, HostPlan(host="h1"), "c2")
    assert [path.stem for path in store.plans.iterdir()] == [HostPlan(host="h1").digest]


@pytest.mark.parametrize("data", [b"", b"{", b'{"digest": 1}', b'{"digest": "a", "commit": "b", "time": "x"}'])
def test_a_corrupt_file_is_read_from_its_copy(store: Store, data: bytes) -> None:
    confirmed = confirm(store)
    (store.folder / "confirmed.json").write_bytes(data)
    assert store.confirmed() == confirmed
    assert (store.folder / "confirmed.json.corrupt").exists()


def test_both_corrupt_is_lost_and_stays_lost_until_something_is_confirmed(store: Store) -> None:
    confirm(store)
    for name in ("confirmed.json", "confirmed.bak.json"):
        (store.folder / name).write_bytes(b"{")
    for _ in range(2):
        with pytest.raises(Stalled, match="cannot be read"):
            store.confirmed()
    assert confirm(store) == store.confirmed()


@pytest.mark.parametrize("data", [b"", b"{}", PLAN.canonical()[:-1]])
def test_a_plan_that_is_not_what_its_name_says_is_lost(store: Store, data: bytes) -> None:
    confirm(store)
    (store.plans / f"{PLAN.digest}.json").write_bytes(data)
    with pytest.raises(Stalled, match="do not match"):
        store.load_plan(PLAN.digest)


def test_a_second_process_is_refused(store: Store) -> None:
    store.lock()
    with pytest.raises(Busy):
        Store(store.folder).lock()
    store.unlock()
    other = Store(store.folder)
    other.lock()
    other.unlock()


def test_rejected_commits_are_remembered_and_the_oldest_forgotten(store: Store) -> None:
    for i in range(KEEP_REJECTED + 2):
        store.commits.reject(Rejected(f"c{i}", "Refused", "no", float(i)))
    known = Store(store.folder).commits.rejected()
    assert len(known) == KEEP_REJECTED
    assert known["c17"] == Rejected("c17", "Refused", "no", 17.0)
    store.commits.forget_rejected()
    assert store.commits.rejected() == {}


def test_a_rejection_that_cannot_be_written_holds_while_the_process_lives(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        store.commits.reject(Rejected("c1", "Refused", "no", 1.0))
    assert list(store.commits.rejected()) == ["c1"]


def test_a_corrupt_list_of_rejected_commits_is_set_aside(store: Store) -> None:
    (store.folder / "rejected.json").write_text('{"c1": {"nonsense": 1}}')
    assert store.commits.rejected() == {}


def test_status_survives(store: Store) -> None:
    assert store.status() is None
    store.write_status({"host": "h1"})
    assert store.status() == {"host": "h1"}


def test_what_is_sealed_anew_takes_the_place_of_what_was(store: Store) -> None:
    """The same secret for other recipients is another ciphertext: the old one could not be opened any more."""
    reference = SecretRef(secret="psk", fingerprint="f")
    store.save_sealed("d1", {reference: b"old"})
    store.save_sealed("d1", {reference: b"new"})
    assert store.sealed(reference) == [b"new"]
    before = (store.plans / "d1.age").stat().st_ino
    store.save_sealed("d1", {reference: b"new"})
    assert (store.plans / "d1.age").stat().st_ino == before, "what is there already is not written again"


def test_a_plan_needs_preshared_keys_shared_keys_and_the_credentials_of_exits() -> None:
    psk, shared, login = (SecretRef(secret=name, fingerprint=name) for name in ("psk", "clients", "pia-login"))
    peer = Peer(dev="wg0", public_key="A" * 43 + "=", preshared_key=psk)
    device = Wireguard(dev="wg1", private_key=shared, listen_port=5001)
    exit = sample_exit().model_copy(update={"credentials": login})
    plan = HostPlan.of("h1", [*site(), peer, device], Runtime(exits=(exit,)))
    assert {one.secret for one in secrets_of(plan)} == {"psk", "clients", "pia-login"}


def test_another_commit_is_counted_from_one(store: Store) -> None:
    assert [store.commits.count_interruption(commit) for commit in ("c1", "c1", "c2", "c2", "c1")] == [1, 2, 1, 2, 1]


def test_what_is_confirmed_is_on_the_disk_before_the_journal_ends(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a loss of power could leave neither: the name of the new file is in its folder, and that is written out."""
    store.begin(Journal("", PLAN.digest, "c1", "boot", 1))
    synced = events(monkeypatch, store)
    confirm(store)
    end = synced.index("end")
    renamed = synced.index("confirmed.json")
    assert store.folder.name in synced[renamed:end]


def test_a_journal_is_on_the_disk_before_anything_is_changed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = events(monkeypatch, store)
    store.begin(Journal("", "d", "c1", "boot", 1))
    assert len(synced) == 3 and synced[0] not in ("journal.json", store.folder.name), "what is in the file"
    assert synced[1:] == [store.journal_file.name, store.folder.name], "its name, and the folder that has it"


def events(monkeypatch: pytest.MonkeyPatch, store: Store) -> list[str]:
    """What is written out to the disk, renamed, and when the journal goes, in this order."""
    found: list[str] = []
    sync, replace, unlink = os.fsync, Path.replace, Path.unlink

    def fsync(descriptor: int) -> None:
        found.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)  # noqa: PTH115 - of a descriptor
        sync(descriptor)

    def renamed(path: Path, target: Path) -> Path:
        found.append(Path(target).name)
        return replace(path, target)

    def gone(path: Path, missing_ok: bool = False) -> None:
        if path == store.journal_file:
            found.append("end")
        unlink(path, missing_ok)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "replace", renamed)
    monkeypatch.setattr(Path, "unlink", gone)
    return found
