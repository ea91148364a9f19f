from __future__ import annotations

import pytest

from reconciler.process.setup import source_of
from reconciler.sources.rendered import RenderedFolder
from reconciler.sources.repository import RenderedRepository, Repository
from reconciler.state.config import parse


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("{git: /srv/wan.git}", Repository),
        ("{git: /srv/wan.git, plans: rendered}", RenderedRepository),
        ("{plans: /srv/plans}", RenderedFolder),
    ],
)
def test_where_plans_come_from(source: str, kind: type) -> None:
    assert isinstance(source_of(parse(f"{{host: h1, source: {source}}}", "agent.yaml"), ["true"]), kind)
