from __future__ import annotations

import pytest

from reconciler.system.resolve import Resolver
from schema.plan.base import Family


def test_a_name_that_failed_is_not_asked_for_again_at_once() -> None:
    asked: list[str] = []
    now = [0.0]

    def lookup(name: str, family: object) -> str:
        asked.append(name)
        raise OSError("no such name")

    resolve = Resolver(lookup, lambda: now[0])
    for _ in range(3):
        with pytest.raises(OSError, match="resolve"):
            resolve("a.example.org")
    assert asked == ["a.example.org"]
    now[0] = 31.0
    with pytest.raises(OSError, match="resolve"):
        resolve("a.example.org")
    assert len(asked) == 2


def test_an_answer_is_handed_on() -> None:
    assert Resolver(lambda name, family: "192.0.2.1")("a.example.org") == "192.0.2.1"


def test_each_family_is_asked_for_by_itself() -> None:
    def lookup(name: str, family: object) -> str:
        if family == "inet":
            raise OSError("no such address")
        return "2001:db8::1"

    resolve = Resolver(lookup)
    with pytest.raises(OSError, match="resolve"):
        resolve("a.example.org", "inet")
    assert resolve("a.example.org", "inet6") == "2001:db8::1"


@pytest.mark.parametrize(("family", "address"), [("inet", "127.0.0.1"), ("inet6", "::1")])
def test_the_systems_resolver_is_asked_for_the_family(family: Family, address: str) -> None:
    assert Resolver()(address, family) == address
    with pytest.raises(OSError, match="resolve"):
        Resolver()(address, "inet6" if family == "inet" else "inet")
