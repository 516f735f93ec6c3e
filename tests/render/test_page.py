"""A rule's page in the terminal."""

from __future__ import annotations

from envdoctor.render.lines import Page
from envdoctor.render.page import add_markdown
from envdoctor.render.style import Style

MARKDOWN = """\
# A **bold** title #

Words that go on and on until they have to be wrapped somewhere, with `code  kept` and a
[link](https://example.org/a_b "title") and <https://example.org>.

## How to fix
- first item that is so long that it needs a second line below the first
  and goes on here
- second \\*escaped\\*
  1. inner

```sh
pip install 'vllm[flash]'   # **not bold** and never wrapped, however long this line may become in the end
```
| a | b |
|---|---|
| 1 | 2 |
Done.
"""
SHOWN = """\
A bold title

Words that go on and on until they have to be wrapped
somewhere, with `code kept` and a link
<https://example.org/a_b> and <https://example.org>.

How to fix
  - first item that is so long that it needs a second line
    below the first and goes on here
  - second *escaped*
    1. inner

    pip install 'vllm[flash]'   # **not bold** and never wrapped, however long this line may become in the end

| a | b |
|---|---|
| 1 | 2 |
Done.
"""


def test_marks_go_and_words_stay() -> None:
    page = Page(Style(width=58))
    add_markdown(page, MARKDOWN)
    assert page.text() == SHOWN


def test_an_unclosed_fence_and_an_empty_page() -> None:
    page = Page(Style())
    add_markdown(page, "```\ncode\x1b[31m")
    assert page.text() == "    code\\x1b[31m\n"
    empty = Page(Style())
    add_markdown(empty, "")
    assert empty.text() == ""
