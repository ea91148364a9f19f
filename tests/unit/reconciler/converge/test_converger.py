"""The same looking, comparing and changing for something that is no host: a service that shows a change only later."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import ClassVar, Literal

import pytest

from reconciler.base.errors import Transient
from reconciler.converge.converger import PASSES, Converger
from reconciler.converge.diff import Desired
from reconciler.converge.layers import NOTHING
from reconciler.cycle.unfinished import unfinished
from reconciler.kinds.base import Failure, Kind, Observed
from schema.plan import Change, Key, Resource

TAG = "gitwan"


class Bucket(Resource):
    rank: ClassVar[int] = 10

    kind: Literal["bucket"] = "bucket"
    name: str
    size: int = 1

    @property
    def key(self) -> Key:
        return (self.name,)

    def describe(self) -> str:
        return f"{self.name} size {self.size}"


KINDS = {"bucket": Kind(name="bucket", marker=TAG, stands_on=frozenset(), announced_by="nobody")}


class Cloud:
    """Does what it is told, and shows it after so many seconds; it may refuse for a while."""

    def __init__(self, delay: float = 0.0) -> None:
        self.shown: dict[Key, Observed[Bucket]] = {}
        self.done: dict[Key, Observed[Bucket]] = {}
        self.delay = delay
        self.slept: list[float] = []
        self.throttled = 0

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        if sum(self.slept) >= self.delay:
            self.shown = dict(self.done)

    def observe(self) -> list[Observed[Bucket]]:
        return list(self.shown.values() if self.delay else self.done.values())

    def apply(self, changes: Sequence[Change]) -> list[Failure]:
        if self.throttled:
            self.throttled -= 1
            return [Failure(change, "Throttling", "rate exceeded", 5.0) for change in changes]
        for change in changes:
            if change.after is None:
                self.done.pop(change.resource.key, None)
            elif isinstance(change.after, Bucket):
                self.done[change.after.key] = Observed(change.after, TAG)
        return []

    def converge(self, desired: Desired, wait: float = 0.0, aside: object = nullcontext) -> list[Change]:
        """What is left."""
        found = Converger({"bucket": self}, KINDS, wait=wait, sleep=self.sleep, aside=aside)  # type: ignore[arg-type]

        def left(seen: object = None, kinds: object = None, outcome: object = None) -> list[Change]:
            return found.diff(desired, {"bucket": self.observe()}, NOTHING).changes

        changes = left()
        settled = found.settle(changes, found.execute(changes), left)
        if settled.left:
            raise unfinished(settled.left, settled.outcome.failures)
        return settled.left


WANTED = Desired.of([Bucket(name="a"), Bucket(name="b", size=2)], KINDS)


def test_it_converges_changes_and_deletes() -> None:
    cloud = Cloud()
    cloud.converge(WANTED)
    assert {key[0] for key in cloud.done} == {"a", "b"}
    cloud.converge(Desired.of([Bucket(name="b", size=3)], KINDS))
    assert [one.resource for one in cloud.done.values()] == [Bucket(name="b", size=3)]


def test_what_shows_later_is_waited_for_and_others_pass_meanwhile() -> None:
    aside: list[str] = []

    def stepping() -> AbstractContextManager[None]:
        aside.append("stepped")
        return nullcontext()

    cloud = Cloud(delay=20.0)
    cloud.converge(WANTED, wait=10.0, aside=stepping)
    assert cloud.slept == [10.0, 10.0] and len(aside) == 2


def test_what_never_shows_is_an_error_after_so_many_looks() -> None:
    cloud = Cloud(delay=1000.0)
    with pytest.raises(Transient, match="still different"):
        cloud.converge(WANTED, wait=10.0)
    assert len(cloud.slept) == PASSES


def test_a_refusal_that_passes_is_tried_again_and_one_that_stays_says_when_to_try() -> None:
    cloud = Cloud()
    cloud.throttled = 1
    cloud.converge(WANTED)
    cloud = Cloud()
    cloud.throttled = 99
    with pytest.raises(Exception, match="rate exceeded") as error:
        cloud.converge(WANTED)
    assert (error.value.reason, error.value.retry_after) == ("Throttling", 5.0)  # type: ignore[attr-defined]
