"""Routes as bytes: what is read of them, what is remembered of them, and what is the kernel's own."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from typing import Any, cast

import pytest

from reconciler.kinds.base import Failure
from reconciler.system.route import LOCAL_TABLE, RTM_F_CLONED, RTMSG, RouteDriver, decode, encode, encode_delete
from schema.plan import Change, Route

INDICES = {"eth0": 2, "eth1": 3}
NAMES = {index: name for name, index in INDICES.items()}


@pytest.mark.parametrize("table", [1, 253, 254, 256, 257, 1000, 70000, 2**32 - 1])
@pytest.mark.parametrize("dst", ["10.5.0.0/16", "0.0.0.0/0", "fd05::/32", "::/0"])
def test_what_is_written_is_read(table: int, dst: str) -> None:
    route = Route(dst=dst, dev="eth0", table=table, metric=7)
    seen = decode(encode(route, INDICES), NAMES)
    assert seen is not None and (seen.resource, seen.marker) == (route, 117)
    assert len(encode_delete(route)) >= RTMSG.size


def test_what_the_kernel_makes_for_itself_is_no_route_of_anybodys() -> None:
    body = bytearray(encode(Route(dst="10.5.0.1/32", dev="eth0"), INDICES))
    assert decode(bytes(body), NAMES) is not None
    family, length, source, tos, table, protocol, scope, kind, flags = RTMSG.unpack_from(body)
    for changed in (
        (family, length, source, tos, LOCAL_TABLE, protocol, scope, kind, flags),
        (family, length, source, tos, table, protocol, scope, kind, flags | RTM_F_CLONED),
        (family, length, source, tos, table, protocol, scope, 2, flags),
        (28, length, source, tos, table, protocol, scope, kind, flags),
    ):
        assert decode(RTMSG.pack(*changed) + bytes(body[RTMSG.size :]), NAMES) is None, changed


class Kernel:
    """Netlink that answers dumps with what a test puts there, and counts them."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.dumps = 0
        self.refusals: dict[int, int] = {}

    def dump(self, kind: int, body: bytes) -> list[bytes]:
        self.dumps += 1
        family = body[0]
        return [one for one in self.bodies if one[0] == family]

    def send(self, messages: Sequence[Any]) -> dict[int, OSError]:
        return {n: OSError(number, "refused") for n, number in self.refusals.items()}


class Fixed:
    names, indices = NAMES, INDICES

    def refresh(self) -> bool:
        return False


def driver_of(kernel: Kernel) -> RouteDriver:
    driver = RouteDriver(cast(Any, kernel))
    driver._interfaces = cast(Any, Fixed())
    return driver


def test_what_is_gone_is_forgotten_in_time() -> None:
    """Routes come and go for years: what stands for their bytes must not be kept for ever."""
    kernel = Kernel()
    driver = driver_of(kernel)
    for turn in range(40):
        kernel.bodies = [encode(Route(dst=f"10.{turn}.{n}.0/24", dev="eth0"), INDICES) for n in range(100)]
        assert {one.resource.dst for one in driver.observe()} == {f"10.{turn}.{n}.0/24" for n in range(100)}
        assert len(driver._known) <= 2 * 100 + 1024 + 100
    again = driver.observe()
    assert len(again) == 100


def test_a_route_that_is_there_already_is_no_failure_and_another_one_is(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted, other = Route(dst="10.5.0.0/16", dev="eth0"), Route(dst="10.5.0.0/16", dev="eth1")
    for there, failed in ((wanted, False), (other, True)):
        kernel = Kernel()
        kernel.bodies = [encode(there, INDICES)]
        change = Change(None, wanted)
        exist = Failure(change, errno.errorcode[errno.EEXIST], "File exists")
        monkeypatch.setattr("reconciler.system.route.send", lambda *given, exist=exist: ([], [exist]))
        assert (driver_of(kernel).apply([change]) == [exist]) == failed
    monkeypatch.setattr("reconciler.system.route.send", lambda *given: ([], []))
    kernel = Kernel()
    assert driver_of(kernel).apply([Change(None, wanted)]) == [] and kernel.dumps == 0, "nothing to look up"
