"""The agent's own group, which distinguishes its packets from others of the host."""

from __future__ import annotations

import os

from schema.plan.ranges import AGENT


def join() -> None:
    """Add this process and all its future children to the agent's group. Raises OSError without CAP_SETGID."""
    groups = os.getgroups()
    if AGENT not in groups:
        os.setgroups([*groups, AGENT])


def others() -> list[int] | None:
    """The groups of a child whose packets are not the agent's; None if the child may keep this process's groups.

    Setting them in a child needs CAP_SETGID.
    """
    groups = os.getgroups()
    return [group for group in groups if group != AGENT] if AGENT in groups else None
