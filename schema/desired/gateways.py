"""Hosts of a site that stand in for each other: one is active, the others wait."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, GetJsonSchemaHandler, model_validator
from pydantic_core import CoreSchema

from schema.desired.base import Document, Duration, Name
from schema.desired.fabric import Ip


class Gateways(Document):
    """A group of gateways. A list alone is its `hosts`."""

    hosts: Annotated[tuple[Name, ...], Field(min_length=2, max_length=4)]
    """By priority: the first is active where it can be."""
    virtual: tuple[Ip, ...] = ()
    """Addresses on the LANs that all of them share, which the active one has (VRRP)."""
    vrid: int = Field(default=117, ge=1, le=255)
    """The virtual router's number (RFC 5798), which no other router on these LANs may use."""
    hold: Annotated[Duration, Field(ge=1.0, le=1000.0)] = 30.0
    """How long one with a better priority is back before it takes over again."""

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: object) -> object:
        return {"hosts": value} if isinstance(value, list) else value

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        found = handler(schema)
        return {"anyOf": [handler.resolve_ref_schema(found)["properties"]["hosts"], found]}
