"""The kernel lane: `python -m tests.kernel.run`. The contract tests that need the kernel's own
WireGuard and bonds, in a VM.

Exit code 0 where all passed, 1 where some did not, 2 where the machine lacks what the lane needs.
`tests/kernel/test_kernel.py` runs it.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from pathlib import Path

from tests.kernel.kernel import SAY, MissingError, provide
from tests.kernel.machine import BootError, Inner, heed_sigterm, run_tests

ROOT = Path(__file__).resolve().parent.parent.parent
CACHE = ROOT / ".cache" / "kernel"
OUT = CACHE / "out"
LACKING = 2
"""The exit code where the machine lacks what the lane needs."""
WORDS = ["-k", "kernel_wireguard or kernel_bond"]
NAMED = ("kernel_wireguard", "kernel_bond", "WIREGUARD_WORLDS")


def files() -> list[str]:
    """The test files that have such tests: what the others import takes an emulated processor minutes."""
    found = sorted((ROOT / "tests" / "contract").glob("test_*.py"))
    return [str(path.relative_to(ROOT)) for path in found if any(name in path.read_text() for name in NAMED)]


def lane(say: SAY) -> list[Inner]:
    """Every inner test with its outcome. Raises MissingError and BootError."""
    return run_tests(ROOT, provide(CACHE, say), [*files(), *WORDS], OUT, say)


def _summary(found: list[Inner]) -> str:
    counts = Counter(inner.outcome for inner in found)
    return ", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items())) or "no tests"


def main() -> int:
    heed_sigterm()
    started = time.monotonic()
    try:
        found = lane(lambda text: print(text, flush=True))
    except MissingError as error:
        print(f"the kernel lane cannot run here: {error}", file=sys.stderr)
        return LACKING
    except BootError as error:
        print(f"the kernel lane failed: {error}", file=sys.stderr)
        return 1
    for inner in found:
        if inner.outcome != "passed":
            print(f"\n{inner.outcome}: {inner.name}\n{inner.message}")
    print(f"in the virtual machine: {_summary(found)}, in {time.monotonic() - started:.0f} s")
    return 0 if found and all(inner.outcome == "passed" for inner in found) else 1


if __name__ == "__main__":
    sys.exit(main())
