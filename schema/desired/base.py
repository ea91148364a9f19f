"""What all documents share: frozen models, names, and values with units."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
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

from schema.duration import duration_text, seconds
from schema.ip import BITS, Interface
from schema.plan.base import PublicKey as PublicKey


class Document(BaseModel):
    """A frozen model that rejects unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ListForm(Document):
    """A mapping with a short form: a list alone is the value of the key `listed`."""

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
"""An interface name. Stricter than the kernel: it must also fit into a sysctl's name and an iptables rule."""


@dataclass(frozen=True, slots=True)
class Written:
    """In an annotation: turns a value of the model into the form of a document. The JSON Schema shows defaults in
    it."""

    text: Callable[[Any], str]


Duration = Annotated[
    float,
    BeforeValidator(seconds),
    Written(duration_text),
    WithJsonSchema({"type": "string", "pattern": r"^\d+(\.\d+)?(ms|s|m|h|d)$", "examples": ["10s", "100ms"]}),
]


def _share_text(value: float) -> str:
    return f"{value * 100:g}%"


def _share(value: object) -> object:
    """`20%` -> 0.2. Raises ValueError for anything else."""
    if isinstance(value, str) and re.fullmatch(r"\d+(\.\d+)?%", value) and float(value[:-1]) <= 100:
        return float(value[:-1]) / 100
    raise ValueError(f"{value!r} is not a share: write 20%")


Share = Annotated[
    float,
    BeforeValidator(_share),
    Written(_share_text),
    WithJsonSchema({"type": "string", "pattern": r"^\d+(\.\d+)?%$", "examples": ["20%"]}),
]


def _whole(value: float) -> float:
    if value != int(value) or value > 65535:
        raise ValueError("a keepalive has whole seconds, at most 65535s; 0s is none")
    return value


Keepalive = Annotated[Duration, AfterValidator(_whole)]
"""WireGuard stores a keepalive as whole seconds in 16 bits."""

T = TypeVar("T")


class _OneOrMany:
    """Accepts a single value in place of a list of one, in pydantic and in the JSON Schema."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(
            lambda value: value if isinstance(value, list | tuple) else [value], handler(source)
        )

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        found = handler(schema)
        if "minLength" in found:  # pydantic takes the minimum of a list behind a validator for that of a text
            found["minItems"] = found.pop("minLength")
        return {"anyOf": [found["items"], found]}


OneOrMany = Annotated[tuple[T, ...], _OneOrMany()]


def one_of_each_family(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """The same values. Raises ValueError for two addresses of one family, or for an address with a prefix length."""
    versions = [value.version for value in values if isinstance(value, Interface)]
    if len(versions) != len(set(versions)):
        raise ValueError("one address of each family, not more")
    long = [value for value in values if isinstance(value, Interface) and value.length != BITS[value.version]]
    if long:
        raise ValueError(f"{long[0]} has a prefix length, which means nothing here: write {long[0].address}")
    return values
