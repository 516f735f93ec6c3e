"""``python -m envdoctor.schemas``: write the committed schemas anew from the types."""

from __future__ import annotations

from envdoctor.schemas import FILES, generated, path

for document in FILES:
    with open(path(document), "w", encoding="utf-8") as file:
        file.write(generated(document))
