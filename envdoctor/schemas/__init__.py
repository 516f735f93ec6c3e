"""The committed JSON Schemas of our documents: the contract with whoever reads or writes them.

Within a version (the ``1`` of ``envdoctor.report/1``) a document only ever gains keys: none is removed or
renamed, none changes its type or meaning, and a list of fixed words may grow. A key that was added later
has a default in its type and is therefore not required, so that older documents stay valid. Readers ignore
keys that they do not know. Anything else is a new version with a schema of its own, beside this one.

After a change of a type, ``python -m envdoctor.schemas`` writes the files anew.
"""

from __future__ import annotations

import os

FILES = {"report": "report-1.json", "facts": "facts-1.json"}


def text(document: str) -> str:
    """The schema of ``report`` or ``facts`` as it is published. Raises `KeyError` for a document that we do
    not write.
    """
    with open(path(document), encoding="utf-8") as file:
        return file.read()


committed = text


def generated(document: str) -> str:
    """The schema that today's types give, for developers and tests. Raises `KeyError`."""
    from envdoctor.schemas.generating import generated as generate

    return generate(document)


def path(document: str) -> str:
    """Where the committed schema lies. Raises `KeyError`."""
    return os.path.join(os.path.dirname(__file__), FILES[document])
