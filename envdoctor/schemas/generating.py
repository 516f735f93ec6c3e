"""From our types to JSON Schema (draft 2020-12), with what the types' docstrings say. For developers and
tests.
"""

from __future__ import annotations

import ast
import inspect
import itertools
import textwrap
from typing import TYPE_CHECKING, Any, get_args

import msgspec

from envdoctor.facts import Source
from envdoctor.report import SCHEMA as REPORT, Report
from envdoctor.snapshot import SCHEMA as FACTS, FactsDocument

if TYPE_CHECKING:
    from collections.abc import Iterator

DRAFT = "https://json-schema.org/draft/2020-12/schema"
ROOTS: dict[str, tuple[str, type, str]] = {
    "report": (
        REPORT,
        Report,
        "A report of envdoctor: what is wrong with a machine, how it is known, what to type.",
    ),
    "facts": (FACTS, FactsDocument, "The facts of one machine, as `envdoctor record` writes them."),
}


def generated(document: str) -> str:
    """The schema that today's types give. Raises `KeyError` for a document that we do not write."""
    version, root, title = ROOTS[document]
    _, components = msgspec.json.schema_components((root,), ref_template="#/$defs/{name}")
    for kind in _structs(root):
        _describe(kind, components.get(kind.__name__, {}))
    top = components.pop(root.__name__)
    top["properties"]["schema"] = {
        "const": version,
        "description": "Which document this is, in which version.",
    }
    if document == "facts":
        _require_source(top, components)
    for definition in (top, *components.values()):
        definition.pop("title", None)
    schema = {
        "$schema": DRAFT,
        "$id": f"urn:envdoctor:schema:{document}-1",
        "title": title,
        **top,
        "$defs": dict(sorted(components.items())),
    }
    return msgspec.json.format(msgspec.json.encode(schema), indent=2).decode() + "\n"


def _require_source(top: dict[str, Any], components: dict[str, Any]) -> None:
    """Every fact says how it is known; its other fields are its type's own."""
    _, extra = msgspec.json.schema_components((Source,), ref_template="#/$defs/{name}")
    components.update(extra)
    _describe(Source, components["Source"])
    known = {"type": "object", "properties": {"source": {"$ref": "#/$defs/Source"}}, "required": ["source"]}
    top["properties"]["facts"]["additionalProperties"] = known
    top["properties"]["symptoms"]["items"] = {
        "type": "object",
        "properties": {"kind": {"type": "string"}, "source": {"$ref": "#/$defs/Source"}},
        "required": ["kind"],
    }


def _structs(kind: Any, seen: set[type] | None = None) -> Iterator[type[msgspec.Struct]]:
    """The Struct types that a type is made of, itself included."""
    seen = set() if seen is None else seen
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        if kind in seen:
            return
        seen.add(kind)
        yield kind
        for field in msgspec.structs.fields(kind):
            yield from _structs(field.type, seen)
        return
    for part in get_args(kind):
        yield from _structs(part, seen)


def _describe(kind: type[msgspec.Struct], schema: dict[str, Any]) -> None:
    """The first paragraph of the docstring, and for each field what is written below it."""
    schema["description"] = _paragraph(inspect.getdoc(kind) or "")
    for name, said in _field_docs(kind).items():
        if name in schema.get("properties", {}):
            schema["properties"][name]["description"] = said


def _field_docs(kind: type) -> dict[str, str]:
    """The string literals that follow annotated fields in the source of a class."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(kind)))
    body = tree.body[0].body if isinstance(tree.body[0], ast.ClassDef) else []
    found = {}
    for field, after in itertools.pairwise(body):
        if not isinstance(field, ast.AnnAssign) or not isinstance(field.target, ast.Name):
            continue
        said = after.value if isinstance(after, ast.Expr) else None
        if isinstance(said, ast.Constant) and isinstance(said.value, str):
            found[field.target.id] = _paragraph(inspect.cleandoc(said.value))
    return found


def _paragraph(doc: str) -> str:
    """A docstring's first paragraph as one line, without the marks of reStructuredText."""
    return " ".join(doc.partition("\n\n")[0].split()).replace("``", '"').replace("`", "")
