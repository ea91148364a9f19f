"""A plugin of pytest for runs with a mistake: the same examples in every run, and no search for the smallest one."""

from __future__ import annotations

import pytest
from hypothesis import Phase, settings


def pytest_configure(config: pytest.Config) -> None:
    phases = (Phase.explicit, Phase.generate)
    settings.register_profile("mutants", deadline=None, derandomize=True, database=None, phases=phases)


def pytest_sessionstart(session: pytest.Session) -> None:
    settings.load_profile("mutants")
