"""Tables and trees of what was seen, as wide as the page allows."""

from __future__ import annotations

from envdoctor.render.lines import Page
from envdoctor.render.style import Style

SITE = "/home/ada/.venv/lib/python3.12/site-packages"
ROWS = (("libcudart", "/usr/lib/libcudart.so.12", ""), ("libnccl", "/opt/nccl/lib/libnccl.so.2", "loaded"))


def page_of(width: int) -> Page:
    return Page(Style(width=width))


def test_a_table_that_fits_is_aligned() -> None:
    page = page_of(80)
    page.table(("library", "file", "state"), ROWS, 2)
    assert page.text().splitlines() == [
        "  library    file                        state",
        "  libcudart  /usr/lib/libcudart.so.12",
        "  libnccl    /opt/nccl/lib/libnccl.so.2  loaded",
    ]


def test_a_column_without_anything_in_it_is_left_out() -> None:
    page = page_of(80)
    page.table(("library", "file", "state"), ROWS[:1], 0)
    assert page.text().splitlines()[0] == "library    file"


def test_a_table_that_is_too_wide_becomes_lists() -> None:
    page = page_of(40)
    page.table(("library", "file", "state"), ROWS, 0)
    assert page.text().splitlines() == [
        "library libcudart",
        "  file   /usr/lib/libcudart.so.12",
        "library libnccl",
        "  file   /opt/nccl/lib/libnccl.so.2",
        "  state  loaded",
    ]


def test_a_tree_is_indented_and_says_why_on_the_same_line_where_that_fits() -> None:
    page = page_of(60)
    page.tree((("a.so", "/x/a.so", "by RPATH"), ("b.so", "not found", "w" * 50)), (0, 1), 2)
    assert page.text().splitlines() == [
        "  a.so: /x/a.so (by RPATH)",
        "    b.so: not found",
        f"        ({'w' * 50})",
    ]


def test_a_tree_names_site_packages_once() -> None:
    page = page_of(80)
    rows = tuple((f"{name}.so", f"{SITE}/nvidia/{name}.so", "") for name in "abc")
    page.tree(rows, (0, 0, 0), 0)
    assert page.text().splitlines() == [
        f"site is {SITE}",
        *(f"{name}.so: site/nvidia/{name}.so" for name in "abc"),
    ]


def test_two_environments_are_not_mixed_up() -> None:
    page = page_of(100)
    rows = tuple((name, f"/{name}/lib/site-packages/x.so", "") for name in ("one", "two", "three"))
    page.tree(rows, (0, 0, 0), 0)
    assert page.text().splitlines()[0] == "one: /one/lib/site-packages/x.so"


def test_escapes_in_cells_never_reach_the_terminal() -> None:
    page = page_of(60)
    page.tree((("\x1b[31mred", "[bold]x", ""),), (0,), 0)
    page.table(("a", "b"), (("\x1b]0;title\x07", "y"),), 0)
    assert "\x1b" not in page.text()
    assert "[bold]x" in page.text()
