"""Boots a real kernel once, and passes on the outcome of every contract test that ran inside."""

from __future__ import annotations

import os

import pytest

from tests.kernel.kernel import MissingError
from tests.kernel.machine import BOUND
from tests.kernel.run import lane, summary


@pytest.mark.kernel
@pytest.mark.timeout(BOUND + 120)
def test_the_contract_holds_on_a_real_kernel(capfd: pytest.CaptureFixture[str], subtests: pytest.Subtests) -> None:
    with capfd.disabled():
        print()
        try:
            found = lane(lambda text: print(text, flush=True))
        except MissingError as error:
            if os.environ.get("CI"):
                pytest.fail(f"the kernel lane cannot run here: {error}")
            pytest.skip(f"the kernel lane cannot run here: {error}")
        print(f"in the virtual machine: {summary(found)}")
    assert found, "no test ran inside"
    for inner in found:
        with subtests.test(msg=inner.name):
            # What is skipped inside was not shown, and this lane is the only one that can.
            assert inner.outcome == "passed", inner.message
