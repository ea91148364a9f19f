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
from pydantic.fields import FieldInfo
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from schema.desired import DOCUMENTS
from schema.desired.base import Document, Written
from schema.ip import Interface, Prefix
from schema.plan.marks import Marks


def schemas() -> dict[str, str]:
    """File name -> JSON Schema (draft 2020-12), one for each kind of document."""
    found = {}
    for name, (chooser, models) in DOCUMENTS.items():
        union = reduce(or_, models.values())
        chosen: Any = Annotated[union, Field(discriminator=chooser)] if chooser else union
        schema = TypeAdapter(chosen).json_schema(by_alias=True, schema_generator=_Described)
        schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": f"gitwan {name}", **schema}
        found[f"{name}.json"] = json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
    return found


class _Described(GenerateJsonSchema):
    """Gives every key the docstring below it as its description, and a default in the form that people write.

    Pydantic can read docstrings itself while it builds the models. Then every compilation would parse our own source
    first, which takes as long as compiling a site.
    """

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        found = super().model_schema(schema)
        model = schema["cls"]
        if issubclass(model, Document):
            found["description"] = " ".join((model.__doc__ or "").split())
            for name, field in model.model_fields.items():
                _complete(found["properties"][field.alias or name], field, _docstrings(model)[name])
        return found


def _complete(shown: JsonSchemaValue, field: FieldInfo, docstring: str) -> None:
    """Adds the description and the written default of a field to its JSON Schema. A default of None is not shown."""
    shown.pop("title", None)
    shown["description"] = " ".join(docstring.split())
    if shown.get("default", ...) is None:
        del shown["default"]
    elif "default" in shown and field.default is not None:
        shown["default"] = _as_written(field.default, field)


def _as_written(value: Any, field: FieldInfo) -> Any:
    """A value of a field in the form in which a document has it: text with units, and lists."""
    writer = next((one for one in field.metadata if isinstance(one, Written)), None)
    match value:
        case _ if writer:
            return writer.text(value)
        case Document():
            fields = type(value).model_fields.items()
            written = {f.alias or name: _as_written(getattr(value, name), f) for name, f in fields}
            return {name: one for name, one in written.items() if one is not None}
        case Prefix() | Interface() | Marks():
            return str(value)
        case tuple():
            return [_as_written(one, field) for one in value]
        case _:
            return value


@cache
def _docstrings(model: type[Document]) -> dict[str, str]:
    """Field -> the docstring below it, of a model and of its base classes."""
    found: dict[str, str] = {}
    for base in reversed([one for one in model.__mro__ if issubclass(one, Document)]):
        (body,) = ast.parse(dedent(inspect.getsource(base))).body
        assert isinstance(body, ast.ClassDef)
        for one, below in pairwise(body.body):
            match one, below:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                    found[name] = inspect.cleandoc(text)
    return found
