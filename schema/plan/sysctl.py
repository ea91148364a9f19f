"""Kernel parameters."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import StringConstraints

from schema.plan.base import Key, Resource


class Sysctl(Resource):
    """A file below /proc/sys. The parts of its name are separated by slashes, because an interface name may contain a
    dot."""

    rank: ClassVar[int] = 20

    kind: Literal["sysctl"] = "sysctl"
    name: Annotated[str, StringConstraints(pattern=r"^net(/[A-Za-z0-9_.@-]*[A-Za-z0-9_-])+$")]
    value: str

    @property
    def key(self) -> Key:
        return (self.name,)

    def describe(self) -> str:
        return f"{self.name} = {self.value}"
