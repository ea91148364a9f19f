"""JSON Schema of the documents that people write, for editors; checked in under `schema/json/`."""

from __future__ import annotations

import json
from functools import reduce
from operator import or_
from typing import Annotated, Any

from pydantic import Field, TypeAdapter

from schema.desired import DOCUMENTS


def schemas() -> dict[str, str]:
    """File name -> JSON Schema (draft 2020-12), one for each kind of document."""
    found = {}
    for name, (chooser, models) in DOCUMENTS.items():
        union = reduce(or_, models.values())
        chosen: Any = Annotated[union, Field(discriminator=chooser)] if chooser else union
        schema = TypeAdapter(chosen).json_schema(by_alias=True)
        schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": f"gitwan {name}", **schema}
        found[f"{name}.json"] = json.dumps(schema, indent=2) + "\n"
    return found
