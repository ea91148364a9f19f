"""Sends changes as one batch of messages, and turns the kernel's errors into failures of changes."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Mapping, Sequence

from reconciler.kinds.base import Failure
from reconciler.system.netlink import Message, Netlink
from schema.plan import Change

RESOLVE_AGAIN = 30.0
ABSENT = frozenset({errno.ENOENT, errno.ESRCH, errno.ENODEV, errno.EADDRNOTAVAIL, errno.ENXIO})
"""Errors that deletion may return if the object or its interface is already gone."""


def failure(change: Change, error: OSError) -> Failure:
    """A failed change with the kernel's text only: a resource never contains a secret, an error text might."""
    number = error.errno or 0
    text = error.strerror or (os.strerror(number) if number > 0 else "failed")
    if number == errno.EAGAIN:
        # A name does not resolve right now.
        return Failure(change, "Unresolved", text, RESOLVE_AGAIN)
    return Failure(change, errno.errorcode.get(number, ""), text)


def judge(sent: Sequence[Change], errors: Mapping[int, OSError]) -> tuple[list[Failure], list[Failure]]:
    """Split a batch's errors, by position, into failures and EEXIST errors of creations, which the caller must compare.

    Deleting a missing object is no failure.
    """
    failures: list[Failure] = []
    exist: list[Failure] = []
    for position, error in errors.items():
        change = sent[position]
        if change.after is None and error.errno in ABSENT:
            continue
        there = change.before is None and error.errno == errno.EEXIST
        (exist if there else failures).append(failure(change, error))
    return failures, exist


def send(
    netlink: Netlink, changes: Sequence[Change], pack: Callable[[Change], Message | None]
) -> tuple[list[Failure], list[Failure]]:
    """Pack and send changes in their order. Returns failures and creations of existing objects, as `judge` does.

    `pack` returns None for a change that needs no message, and raises OSError for one that cannot be packed.
    """
    messages: list[Message] = []
    sent: list[Change] = []
    failures: list[Failure] = []
    for change in changes:
        try:
            message = pack(change)
        except OSError as error:
            failures.append(failure(change, error))
            continue
        if message is not None:
            messages.append(message)
            sent.append(change)
    refused, exist = judge(sent, netlink.batch(messages))
    return failures + refused, exist
