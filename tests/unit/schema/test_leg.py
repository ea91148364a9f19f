"""The hash, with figures that were read off a bond's counters."""

from __future__ import annotations

from schema.leg import Sender


def test_ports_that_rise_together_all_leave_by_one_leg() -> None:
    ends = Sender.of("10.0.0.1", "10.0.0.2", 3), Sender.of("10.0.0.2", "10.0.0.1", 3)
    assert {end.leg(port, port) for end in ends for port in range(5000, 5003)} == {0}
    spread = ((5000, 5000), (5001, 5025), (5002, 5001))
    assert [ends[0].leg(*pair) for pair in spread] == [0, 1, 2]
    assert [ends[1].leg(*pair[::-1]) for pair in spread] == [0, 1, 2]
