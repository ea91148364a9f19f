"""What all documents share: frozen models, names, and numbers with units."""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    StringConstraints,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import CoreSchema, core_schema

from schema.duration import seconds
from schema.ip import BITS, Interface
from schema.plan.base import PublicKey as PublicKey


class Document(BaseModel):
    """A frozen model that refuses keys it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ListForm(Document):
    """A document of which one key may be written alone, as a list."""

    listed: ClassVar[str]

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: object) -> object:
        return {cls.listed: value} if isinstance(value, list) else value

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        found = handler(schema)
        return {"anyOf": [handler.resolve_ref_schema(found)["properties"][cls.listed], found]}


Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
"""A name: lower-case letters, digits and hyphens, as in a DNS label. Unique in the fabric."""

DnsName = Annotated[
    str, StringConstraints(pattern=r"^([a-zA-Z0-9_]([a-zA-Z0-9_-]{0,61}[a-zA-Z0-9])?\.)+[a-zA-Z]{2,63}$")
]

IF_NAME = r"^[A-Za-z0-9_]([A-Za-z0-9_.@-]{0,13}[A-Za-z0-9_-])?$"
IfName = Annotated[str, StringConstraints(pattern=IF_NAME)]
"""An interface name: what the kernel takes, less what cannot stand in a sysctl's name or an iptables rule."""

Duration = Annotated[
    float,
    BeforeValidator(seconds),
    WithJsonSchema({"type": "string", "pattern": r"^\d+(\.\d+)?(ms|s|m|h|d)$", "examples": ["10s", "100ms"]}),
]


def _share(value: object) -> object:
    """`20%` -> 0.2. Raises ValueError for anything without its unit."""
    if isinstance(value, str) and re.fullmatch(r"\d+(\.\d+)?%", value) and float(value[:-1]) <= 100:
        return float(value[:-1]) / 100
    raise ValueError(f"{value!r} is not a share: write 20%")


Share = Annotated[
    float,
    BeforeValidator(_share),
    WithJsonSchema({"type": "string", "pattern": r"^\d+(\.\d+)?%$", "examples": ["20%"]}),
]


def _whole(value: float) -> float:
    if value != int(value) or value > 65535:
        raise ValueError("a keepalive has whole seconds, at most 65535s; 0s is none")
    return value


Keepalive = Annotated[Duration, AfterValidator(_whole)]
"""WireGuard counts it in seconds, in 16 bits."""

T = TypeVar("T")


class _OneOrMany:
    """Lets a single value stand where a list may, for pydantic and in the JSON Schema."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(
            lambda value: value if isinstance(value, list | tuple) else [value], handler(source)
        )

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        found = handler(schema)
        return {"anyOf": [found["items"], found]}


OneOrMany = Annotated[tuple[T, ...], _OneOrMany()]


def one_of_each_family(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """At most one address of each family, and each an address alone. Raises ValueError."""
    versions = [value.version for value in values if isinstance(value, Interface)]
    if len(versions) != len(set(versions)):
        raise ValueError("one address of each family, not more")
    long = [value for value in values if isinstance(value, Interface) and value.length != BITS[value.version]]
    if long:
        raise ValueError(f"{long[0]} has a prefix length, which means nothing here: write {long[0].address}")
    return values
