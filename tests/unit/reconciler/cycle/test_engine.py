from __future__ import annotations

import errno
from pathlib import Path

import pytest

from reconciler.base.errors import Stalled
from reconciler.cycle import preview
from reconciler.report.report import Acquired
from schema.plan import Change, Peer, Route, Sysctl
from tests.fakes import FakeHost, Killed
from tests.unit.reconciler.worlds import apply, candidate, engine_on, key, peer, site, wg

FOREIGN = Route(dst="192.168.0.0/16", dev="eth0", metric=10)


def test_a_plan_is_applied_and_confirmed(tmp_path: Path) -> None:
    engine = engine_on(FakeHost(), tmp_path)
    report = apply(engine, "c1", site())
    assert (report.result, report.operations) == ("changed", 5)
    assert report.confirmed and report.confirmed.commit == "c1"
    assert engine.store.journal() is None


def test_a_second_cycle_does_nothing_and_says_so(tmp_path: Path) -> None:
    host = FakeHost()
    engine = engine_on(host, tmp_path)
    apply(engine, "c1", site())
    before = host.operations
    report = engine.converge()
    assert (report.result, report.summary()) == ("unchanged", "0 operations: nothing to change")
    assert host.operations == before


def test_a_commit_that_changes_nothing_here_is_confirmed_without_an_operation(tmp_path: Path) -> None:
    engine = engine_on(FakeHost(), tmp_path)
    apply(engine, "c1", site())
    report = apply(engine, "c2", site())
    assert report.operations == 0
    assert report.confirmed and report.confirmed.commit == "c2"


def test_drift_is_repaired(tmp_path: Path) -> None:
    host = FakeHost()
    engine = engine_on(host, tmp_path)
    apply(engine, "c1", site())
    host.remove(site()[0])  # the link, and all that is on it
    report = engine.converge(kinds={"link"})
    assert report.result == "repaired"
    assert engine.converge().operations == 0


def test_a_removed_peer_is_spoken_to_where_it_was_heard_last(tmp_path: Path) -> None:
    host = FakeHost()
    engine = engine_on(host, tmp_path)
    behind_nat = peer("wg0", 9, endpoint=None)
    apply(engine, "c1", [*wg(), behind_nat])
    host.handshake("wg0", key(9), endpoint="192.0.2.9:7000")
    engine.converge(kinds={"peer"})
    host.remove(wg()[0])  # the interface, and the peer with it
    assert engine.converge(kinds={"link"}).result == "repaired"
    assert host.stored["peer"]["wg0", key(9)].resource.endpoint == "192.0.2.9:7000"
    assert engine.converge().operations == 0


def test_an_event_looks_only_at_what_may_have_moved(tmp_path: Path) -> None:
    looked: list[frozenset[str]] = []
    engine = engine_on(FakeHost(), tmp_path, covered=looked.append)
    apply(engine, "c1", site())
    looked.clear()
    engine.converge(kinds={"rule"})
    engine.converge(kinds={"peer"})
    engine.converge(kinds={"address"})
    engine.converge(kinds={"link"})
    assert looked == [
        {"rule"},
        {"peer", "link"},
        {"address", "nexthop", "route"},
        engine.all_kinds - {"firewall", "rule", "service"},
    ]


def test_a_replaced_link_brings_everything_back_in_one_cycle(tmp_path: Path) -> None:
    host = FakeHost()
    engine = engine_on(host, tmp_path)
    apply(engine, "c1", [*site(), *wg("wg1", 5001)])
    host.set_down("wg0")
    report = engine.converge()
    assert report.result == "repaired"
    assert engine.converge().operations == 0


def test_a_conflict_changes_nothing_and_the_old_plan_is_kept(tmp_path: Path) -> None:
    host = FakeHost()
    engine = engine_on(host, tmp_path)
    apply(engine, "c1", site())
    wanted = Route(dst="192.168.0.0/16", dev="eth1", metric=10)
    host.add(FOREIGN, 4)
    host.remove(site()[4])
    report = apply(engine, "c2", [*site(), wanted])
    assert report.result == "conflict"
    assert "192.168.0.0/16" in report.conflicts[0].text
    assert report.done == {("route", "create"): 1}  # the drift, and nothing of the new plan
    assert report.confirmed and report.confirmed.commit == "c1"


def test_adopting_ends_a_conflict(tmp_path: Path) -> None:
    host = FakeHost()
    engine = engine_on(host, tmp_path)
    host.add(FOREIGN, 4)
    wanted = FOREIGN.model_copy(update={"dev": "eth1"})
    got = Acquired(commit="c1", candidate=candidate("c1", [wanted]))
    assert engine.converge(got).result == "conflict"
    assert engine.converge(got, adopt=True).result == "changed"
    assert engine.converge().operations == 0
    apply(engine, "c2", [])
    assert not host.stored["route"]


def test_adoption_lists_only_what_is_somebody_elses(tmp_path: Path) -> None:
    host = FakeHost()
    host.add(FOREIGN, 4)
    wanted = FOREIGN.model_copy(update={"dev": "eth1"})
    got = Acquired(commit="c1", candidate=candidate("c1", [*site(), wanted]))
    assert preview.adoption(engine_on(host, tmp_path), got) == [Change(FOREIGN, wanted)]


def test_what_is_satisfied_by_others_is_never_deleted(tmp_path: Path) -> None:
    host = FakeHost()
    engine = engine_on(host, tmp_path)
    host.add(FOREIGN, 4)
    assert apply(engine, "c1", [FOREIGN]).operations == 0
    apply(engine, "c2", [])
    assert FOREIGN.key in host.stored["route"]


# Failing


def test_a_refused_change_is_rolled_back_and_the_commit_rejected(tmp_path: Path) -> None:
    host = FakeHost()
    engine = engine_on(host, tmp_path)
    apply(engine, "c1", site())
    before = host.snapshot()
    host.fail_next("route", errno.EINVAL, 3)
    report = apply(engine, "c2", [*site(), *wg("wg1", 5001), Route(dst="10.30.0.0/16", dev="wg1")])
    assert report.result == "rolled back"
    assert report.error and report.error.reason == "Refused"
    assert host.snapshot() == before
    assert engine.store.commits.rejected()["c2"].reason == "Refused"
    assert engine.store.journal() is None
    assert report.confirmed and report.confirmed.commit == "c1"


def test_a_passing_refusal_is_tried_again(tmp_path: Path) -> None:
    host = FakeHost()
    host.fail_next("route", errno.EBUSY, 2)
    assert apply(engine_on(host, tmp_path), "c1", site()).result == "changed"


def test_the_first_plan_rolls_back_to_nothing(tmp_path: Path) -> None:
    host = FakeHost()
    before = host.snapshot()
    host.fail_next("route", errno.EINVAL, 3)
    assert apply(engine_on(host, tmp_path), "c1", site()).result == "rolled back"
    assert host.snapshot() == before


@pytest.mark.parametrize("operations", range(6))
def test_a_killed_change_is_undone_at_the_next_start(tmp_path: Path, operations: int) -> None:
    host = FakeHost()
    apply(engine_on(host, tmp_path), "c1", site())
    before = host.snapshot()
    host.die_after(operations)
    new = [*wg("wg0", 5001, 1400), *wg("wg1", 5000), Sysctl(name="net/ipv4/ip_forward", value="1")]
    with pytest.raises(Killed):
        apply(engine_on(host, tmp_path), "c2", new)
    host.die_after(None)
    engine = engine_on(host, tmp_path)
    report = engine.restore()
    assert report.error is None
    assert host.snapshot() == before
    assert engine.store.journal() is None


def test_restoring_needs_nothing_but_the_disk(tmp_path: Path) -> None:
    first = FakeHost()
    apply(engine_on(first, tmp_path), "c1", site())
    rebooted = FakeHost()
    assert engine_on(rebooted, tmp_path).restore().operations == 5
    assert rebooted.snapshot() == first.snapshot()


def test_a_confirmed_change_is_not_undone_when_only_the_journal_was_left(tmp_path: Path) -> None:
    host = FakeHost()
    engine = engine_on(host, tmp_path)
    apply(engine, "c1", site())
    entry = engine.store.confirmed()
    assert entry
    from reconciler.state.journal import Journal

    engine.store.begin(Journal("", entry.digest, "c1", "boot", 1))
    assert engine_on(host, tmp_path).restore().operations == 0
    assert engine.store.journal() is None


def test_a_corrupt_journal_leads_to_the_confirmed_plan(tmp_path: Path) -> None:
    host = FakeHost()
    engine = engine_on(host, tmp_path)
    apply(engine, "c1", site())
    host.remove(site()[4])
    engine.store.journal_file.write_bytes(b"\x00half")
    report = engine_on(host, tmp_path).restore()
    assert report.error is None
    assert report.operations == 1


def test_a_lost_confirmed_plan_takes_nothing_away(tmp_path: Path) -> None:
    host = FakeHost()
    engine = engine_on(host, tmp_path)
    apply(engine, "c1", site())
    for path in (tmp_path / "plans").iterdir():
        path.write_bytes(b"{")
    before = host.operations
    again = engine_on(host, tmp_path)
    report = again.restore()
    assert report.state_error and report.state_error.reason == "PlanLost"
    assert again.converge().state_error
    assert host.operations == before
    assert apply(again, "c2", site()).result == "unchanged"
    assert again.converge().state_error is None


def test_nothing_is_changed_where_the_journal_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = FakeHost()
    engine = engine_on(host, tmp_path)

    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(engine.store, "begin", full)
    report = apply(engine, "c1", site())
    assert report.error and report.error.reason == "StateUnwritable"
    assert host.operations == 0
    assert not engine.store.commits.rejected()


def test_a_full_disk_at_the_end_rolls_back_without_rejecting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = FakeHost()
    engine = engine_on(host, tmp_path)
    before = host.snapshot()

    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(engine.store, "confirm", full)
    assert apply(engine, "c1", site()).result == "rolled back"
    assert host.snapshot() == before
    assert not engine.store.commits.rejected()


def test_a_kernel_that_cannot_be_read_is_left_alone(tmp_path: Path) -> None:
    host = FakeHost()
    engine = engine_on(host, tmp_path)

    class Blind:
        def observe(self) -> list[object]:
            raise OSError(errno.EPERM, "Operation not permitted")

    engine.converger.drivers = {**host.drivers(), "route": Blind()}  # type: ignore[dict-item]
    report = apply(engine, "c1", site())
    assert report.error and report.error.reason == "ObserveFailed"
    assert host.operations == 0


# Peers


def test_roaming_is_no_drift_and_survives_a_restart(tmp_path: Path) -> None:
    host = FakeHost()
    apply(engine_on(host, tmp_path), "c1", site())
    host.handshake("wg0", key(9), endpoint="192.0.2.7:4000")
    engine = engine_on(host, tmp_path)
    assert engine.restore().operations == 0
    assert engine.converge(kinds={"peer"}).operations == 0


def test_a_peer_that_roams_while_it_is_verified_is_no_failure(tmp_path: Path) -> None:
    host = FakeHost()
    engine = engine_on(host, tmp_path)
    engine.converger.on_stage = lambda stage: (
        host.handshake("wg0", key(9), endpoint="192.0.2.7:4000")
        if stage == "verify" and ("wg0", key(9)) in host.stored["peer"]
        else None
    )
    assert apply(engine, "c1", site()).result == "changed"


def test_an_allowed_ip_moves_from_one_peer_to_another(tmp_path: Path) -> None:
    host = FakeHost()
    engine = engine_on(host, tmp_path)
    apply(engine, "c1", [*wg(), peer("wg0", 8, "10.0.0.0/8"), peer("wg0", 9)])
    assert apply(engine, "c2", [*wg(), peer("wg0", 8), peer("wg0", 9, "10.0.0.0/8")]).error is None
    found = host.stored["peer"]["wg0", key(9)].resource
    assert isinstance(found, Peer) and found.allowed_ips == ("10.0.0.0/8",)


# Overlays, previews, removal


def test_overlays_are_applied_repaired_and_withdrawn(tmp_path: Path) -> None:
    host = FakeHost()
    engine = engine_on(host, tmp_path)
    apply(engine, "c1", site())
    extra = Route(dst="10.99.0.0/16", dev="wg0")
    assert engine.wanted.change("split", [extra]) == []
    report = engine.apply_owed()
    assert report is not None and report.done == {("route", "create"): 1}
    host.remove(extra)
    assert engine.converge(kinds={"route"}).operations == 1
    engine.wanted.change("split", drop=[(extra.kind, extra.key)])
    report = engine.apply_owed()
    assert report is not None and report.done == {("route", "delete"): 1} and engine.apply_owed() is None


def test_a_preview_changes_nothing(tmp_path: Path) -> None:
    host = FakeHost()
    engine = engine_on(host, tmp_path)
    found = preview.convergence(engine, Acquired(commit="c1", candidate=candidate("c1", site())))
    assert len(found.changes) == 5
    assert host.operations == 0
    assert engine.store.confirmed() is None


def test_removal_takes_all_that_is_ours_and_nothing_else(tmp_path: Path) -> None:
    host = FakeHost()
    host.add(FOREIGN, 4)
    before = host.snapshot()
    engine = engine_on(host, tmp_path)
    apply(engine, "c1", [*site(), Sysctl(name="net/ipv4/ip_forward", value="1")])
    assert len(preview.removal(engine).changes) == 6
    assert engine.remove().ok
    assert host.snapshot() == before
    assert engine_on(host, tmp_path).restore().says_nothing_of_the_plan


def test_stages_are_called_in_order(tmp_path: Path) -> None:
    stages: list[str] = []
    engine = engine_on(FakeHost(), tmp_path, on_stage=stages.append)
    apply(engine, "c1", [FOREIGN])
    assert stages == [
        *("observe", "compare", "baseline", "write_journal", "execute", "apply", "verify", "probe", "confirm")
    ]


def test_a_stalled_state_names_itself(tmp_path: Path) -> None:
    engine = engine_on(FakeHost(), tmp_path)
    (tmp_path / "confirmed.json").write_text("[]")
    with pytest.raises(Stalled, match="cannot be read"):
        engine.store.confirmed()
    assert engine.restore().state_error
