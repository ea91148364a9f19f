from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.base.errors import Busy, Stalled
from reconciler.state.commits import KEEP_REJECTED, Rejected
from reconciler.state.store import Confirmed, Store
from schema.plan import HostPlan
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
