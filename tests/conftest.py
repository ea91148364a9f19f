"""What was measured, in a table at the end; and which lanes run."""

from __future__ import annotations

import pytest
from hypothesis import settings

from tests.drill import everything

# How long an example takes is the machine's business; speed lives in `make bench`.
settings.register_profile("gitwan", deadline=None)
settings.load_profile("gitwan")

_measured: dict[str, list[tuple[str, str]]] = {}


@pytest.fixture(scope="session")
def measured() -> dict[str, list[tuple[str, str]]]:
    """Title -> rows of (what, how much), printed when all tests have ended."""
    return _measured


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for title, rows in _measured.items():
        terminalreporter.section(title)
        width = max(len(what) for what, _ in rows)
        for what, figure in rows:
            terminalreporter.line(f"{what:<{width}}  {figure}")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What takes long runs with `make drill`, or where it is named by its marker."""
    if everything() or "drill" in config.getoption("markexpr"):
        return
    long = [item for item in items if item.get_closest_marker("drill")]
    config.hook.pytest_deselected(items=long)
    items[:] = [item for item in items if item not in set(long)]
