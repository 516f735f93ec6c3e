"""The README shows what the program prints."""

from __future__ import annotations

import re

from tests.support import readme


def test_the_report_is_a_real_one() -> None:
    assert readme.block() in readme.README.read_text(encoding="utf-8"), (
        "python -m tests.support.readme writes it anew"
    )


def test_the_picture_shows_the_same_finding() -> None:
    drawn = re.sub(r"<[^>]+>", "", readme.PICTURE.read_text(encoding="utf-8").replace("&#160;", " "))
    assert "libcudart.so.12 is gone" in drawn
    assert "--force-reinstall --no-deps" in drawn
