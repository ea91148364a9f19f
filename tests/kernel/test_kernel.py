"""Boots a real kernel once, and passes on the outcome of every contract test that ran inside."""

from __future__ import annotations

import os
import subprocess

import pytest

from tests.kernel.machine import BOUND, outcomes
from tests.kernel.run import LACKING, OUT


@pytest.mark.kernel
@pytest.mark.timeout(BOUND + 120)
def test_the_contract_holds_on_a_real_kernel(
    lane: subprocess.Popen[str], capfd: pytest.CaptureFixture[str], subtests: pytest.Subtests
) -> None:
    assert lane.stdout is not None
    said = []
    with capfd.disabled():
        print()
        for line in lane.stdout:
            said.append(line)
            print(line, end="", flush=True)
    if lane.wait() == LACKING:
        if os.environ.get("CI"):
            pytest.fail(said[-1])
        pytest.skip(said[-1])
    found = outcomes(OUT)
    assert found, "no test ran inside"
    for inner in found:
        with subtests.test(msg=inner.name):
            # What is skipped inside was not shown, and this lane is the only one that can.
            assert inner.outcome == "passed", inner.message
    assert lane.returncode == 0, "".join(said[-25:])
