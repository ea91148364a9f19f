"""What all documents share: frozen models, names, and numbers with units."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, StringConstraints, WithJsonSchema

from schema.plan.base import IfName as IfName
from schema.plan.base import PublicKey as PublicKey


class Document(BaseModel):
    """A frozen model that refuses keys it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
"""A name: lower-case letters, digits and hyphens, as in a DNS label. Unique in the fabric."""

DnsName = Annotated[
    str, StringConstraints(pattern=r"^([a-zA-Z0-9_]([a-zA-Z0-9_-]{0,61}[a-zA-Z0-9])?\.)+[a-zA-Z]{2,63}$")
]

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def seconds(value: object) -> float:
    """`10s`, `100ms`, `2m`, `1h` as seconds. Raises ValueError for anything else."""
    if isinstance(value, float):
        return value
    found = re.fullmatch(r"(\d{1,9}(?:\.\d{1,3})?)(ms|s|m|h|d)", value) if isinstance(value, str) else None
    if not found:
        raise ValueError(f"{value!r} is not a duration: write 10s, 100ms, 2m or 1h")
    return float(found[1]) * _UNITS[found[2]]


Duration = Annotated[
    float,
    BeforeValidator(seconds),
    WithJsonSchema({"type": "string", "pattern": r"^\d+(\.\d+)?(ms|s|m|h|d)$", "examples": ["10s", "100ms"]}),
]


def one_or_many(value: Any) -> Any:
    """Lets a single value stand where a list may."""
    return value if isinstance(value, list) else [value]
