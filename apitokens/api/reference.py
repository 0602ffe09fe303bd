"""The API's reference as a page: what the OpenAPI document says, to be read by people and without a script."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.cache import patch_cache_control
from django.utils.html import format_html_join
from django.utils.safestring import SafeString
from django.views.decorators.http import require_safe
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.settings import spectacular_settings

Schema = Mapping[str, Any]
JSON = "json"


@dataclass(frozen=True)
class Shape:
    """What a value is: in words, and the name of the schema that says more."""

    words: str
    name: str = ""


@dataclass(frozen=True)
class Field:
    name: str
    shape: Shape
    is_required: bool
    description: str
    # Of a parameter: the query or a header.
    place: str = ""


@dataclass(frozen=True)
class Described:
    """A schema: the fields of an object, or the values that it can have."""

    name: str
    description: str
    fields: tuple[Field, ...]
    values: tuple[str, ...]


@dataclass(frozen=True)
class Answer:
    status: str
    description: str
    shape: Shape | None

    @property
    def is_refusal(self) -> bool:
        return not self.status.startswith("2")


@dataclass(frozen=True)
class Operation:
    name: str
    method: str
    path: str
    summary: str
    more: str
    parameters: tuple[Field, ...]
    body: Shape | None
    answers: tuple[Answer, ...]

    @property
    def successes(self) -> list[Answer]:
        return [answer for answer in self.answers if not answer.is_refusal]

    @property
    def refusals(self) -> list[Answer]:
        return [answer for answer in self.answers if answer.is_refusal]


@dataclass(frozen=True)
class Reference:
    title: str
    description: str
    groups: tuple[tuple[str, tuple[Operation, ...]], ...]
    schemas: tuple[Described, ...]


@require_safe
def reference(request: HttpRequest) -> HttpResponse:
    response = render(request, "api_reference.html", {"reference": _reference()})
    patch_cache_control(response, private=True, max_age=0, must_revalidate=True)
    return response


@cache
def _reference() -> Reference:
    """It is the same for everybody as long as the process lives."""
    generator: Any = SchemaGenerator()
    document = generator.get_schema(request=None, public=True)
    groups: dict[str, list[Operation]] = defaultdict(list)
    for path, operations in document["paths"].items():
        for method, said in operations.items():
            groups[said["tags"][0]].append(_operation(path, method, said))
    schemas = document["components"]["schemas"]
    return Reference(
        title=spectacular_settings.TITLE,
        description=spectacular_settings.DESCRIPTION,
        groups=tuple((name, tuple(found)) for name, found in sorted(groups.items())),
        schemas=tuple(_described(name, schemas[name]) for name in sorted(schemas)),
    )


def _operation(path: str, method: str, said: Schema) -> Operation:
    summary, _, more = said.get("description", "").partition("\n")
    return Operation(
        name=said["operationId"],
        method=method.upper(),
        path=path,
        summary=_prose(summary),
        more=_prose(more.strip()) if more.strip() else "",
        parameters=tuple(
            Field(
                name=each["name"],
                shape=_shape(each["schema"]),
                is_required=each.get("required", False),
                description=_prose(each.get("description", "")),
                place=each["in"],
            )
            for each in said.get("parameters", [])
        ),
        body=_content(said.get("requestBody", {})),
        answers=tuple(
            Answer(status=status, description=_prose(answer.get("description", "")), shape=_content(answer))
            for status, answer in sorted(said["responses"].items())
        ),
    )


def _content(said: Schema) -> Shape | None:
    """Of the first media type, which is JSON where there is one."""
    contents = sorted(said.get("content", {}).items(), key=lambda item: JSON not in item[0])
    return next((_shape(content.get("schema", {})) for _, content in contents), None)


def _described(name: str, schema: Schema) -> Described:
    required, variants = schema.get("required", ()), schema.get("oneOf", schema.get("anyOf", ()))
    fields = [
        Field(name=key, shape=_shape(of), is_required=key in required, description=_prose(of.get("description", "")))
        for key, of in schema.get("properties", {}).items()
    ]
    fields += [Field(name="", shape=_shape(each), is_required=False, description="") for each in variants]
    return Described(
        name=name,
        # Of an enumeration the values follow, which are listed anyway.
        description=_prose(schema.get("description", "").partition("\n* `")[0].removeprefix("* `")),
        fields=tuple(fields),
        values=tuple(str(value) for value in schema.get("enum", ())),
    )


def _shape(schema: Schema) -> Shape:
    if reference := schema.get("$ref"):
        name = reference.rpartition("/")[2]
        return Shape(name, name)
    for several in ("allOf", "oneOf", "anyOf"):
        if shapes := [_shape(each) for each in schema.get(several, ())]:
            name = next((shape.name for shape in shapes if shape.name), "")
            return Shape(" or ".join(dict.fromkeys(shape.words for shape in shapes)), name)
    types = schema.get("type", "any value")
    named = types if isinstance(types, list) else [types]
    if "array" in named:
        of = _shape(schema.get("items", {}))
        words = [f"list{_bounds(schema)} of {of.words}" if each == "array" else each for each in named]
        return Shape(" or ".join(words), of.name)
    words = [schema["format"] if each == "string" and "format" in schema else each for each in named]
    if values := [str(value) for value in schema.get("enum", ()) if value is not None]:
        words = [", ".join(values), *(["null"] if "null" in named else [])]
    return Shape(" or ".join(words) + _bounds(schema))


def _bounds(schema: Schema) -> str:
    """How much of it there may be, as far as the document says."""
    said = []
    if "minimum" in schema and "maximum" in schema:
        said.append(f"{schema['minimum']} to {schema['maximum']}")
    if "maxLength" in schema:
        said.append(f"up to {schema['maxLength']} characters")
    if "maxItems" in schema:
        said.append(f"up to {schema['maxItems']}")
    return f" ({', '.join(said)})" if said else ""


def _prose(text: str) -> SafeString:
    """What stands between backticks is code."""
    parts = text.split("`") if text else []
    return format_html_join(
        "", "<{0}>{1}</{0}>", (("code" if at % 2 else "span", part) for at, part in enumerate(parts))
    )
