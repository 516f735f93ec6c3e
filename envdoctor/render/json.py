"""The report document itself, as JSON: what programs read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from envdoctor.render import RenderOptions
    from envdoctor.report import Report


def render(report: Report, options: RenderOptions) -> str:
    """The whole document, indented; options change nothing, since a contract has one form."""
    return encoded(report)


def encoded(document: Any) -> str:
    """Any of our documents as indented JSON with a final newline.

    Bytes of the machine that are no UTF-8 (a variable, a file's name) reach us as lone surrogates, which JSON
    cannot hold: they become the letters ``\\udcff``.
    """
    try:
        data = msgspec.json.encode(document)
    except UnicodeEncodeError:
        data = msgspec.json.encode(_encodable(msgspec.to_builtins(document)))
    return msgspec.json.format(data, indent=1).decode() + "\n"


def _encodable(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {_encodable(key): _encodable(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_encodable(each) for each in value]
    return value
