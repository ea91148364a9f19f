"""JSON Schema of the documents that people write, for editors; checked in under `schema/json/`."""

from __future__ import annotations

import ast
import inspect
import json
from functools import cache, reduce
from itertools import pairwise
from operator import or_
from textwrap import dedent
from typing import Annotated, Any

from pydantic import Field, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from schema.desired import DOCUMENTS
from schema.desired.base import Document


def schemas() -> dict[str, str]:
    """File name -> JSON Schema (draft 2020-12), one for each kind of document."""
    found = {}
    for name, (chooser, models) in DOCUMENTS.items():
        union = reduce(or_, models.values())
        chosen: Any = Annotated[union, Field(discriminator=chooser)] if chooser else union
        schema = TypeAdapter(chosen).json_schema(by_alias=True, schema_generator=_Described)
        schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": f"gitwan {name}", **schema}
        found[f"{name}.json"] = json.dumps(schema, indent=2) + "\n"
    return found


class _Described(GenerateJsonSchema):
    """Says of every key what stands below it in the source.

    Pydantic can read that itself, as it makes the models: then every compilation would parse our own source first,
    which takes as long as compiling a site.
    """

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        found = super().model_schema(schema)
        model = schema["cls"]
        if issubclass(model, Document):
            for name, field in model.model_fields.items():
                if text := _docstrings(model).get(name):
                    found["properties"][field.alias or name]["description"] = text
        return found


@cache
def _docstrings(model: type[Document]) -> dict[str, str]:
    """Field -> the string below it, of a model and of those that it comes from."""
    found: dict[str, str] = {}
    for base in reversed([one for one in model.__mro__ if issubclass(one, Document)]):
        (body,) = ast.parse(dedent(inspect.getsource(base))).body
        assert isinstance(body, ast.ClassDef)
        for one, below in pairwise(body.body):
            match one, below:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                    found[name] = inspect.cleandoc(text)
    return found
