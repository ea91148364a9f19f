"""The agent's own group, by which its packets are known among the host's."""

from __future__ import annotations

import os

from schema.plan.ranges import AGENT


def join() -> None:
    """Have this process, and all that it starts, in the agent's group. Raises OSError without CAP_SETGID."""
    groups = os.getgroups()
    if AGENT not in groups:
        os.setgroups([*groups, AGENT])


def others() -> list[int] | None:
    """The groups of a child whose packets are not the agent's; None where it may have all that this process has.

    Giving them to a child takes CAP_SETGID.
    """
    groups = os.getgroups()
    return [group for group in groups if group != AGENT] if AGENT in groups else None
