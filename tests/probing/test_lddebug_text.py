"""The reader of the loader's account on lines written here: garbage, torn and partial ones."""

from time import process_time

from hypothesis import given, strategies as st

from envdoctor.probing.lddebug import LoaderTrace, SearchStep, parse


def test_no_lines_and_other_programs_lines_are_no_facts() -> None:
    assert parse([]) == LoaderTrace((), (), 0, False)
    lines = [
        "Traceback (most recent call last):\n",
        "file=x [0]; needed\n",
        "12:\t\n",
        "  trying file=/x\n",
        "\x00\n",
    ]
    assert parse(lines) == LoaderTrace((), (), 5, False)


def test_the_end_of_the_permitted_lines_is_said() -> None:
    lines = ["      7:\tfind library=liba.so [0]; searching\n"] * 10
    assert parse(lines).truncated is False
    cut = parse(iter(lines), max_lines=4)
    assert (cut.truncated, cut.lines) == (True, 4)


def test_a_line_that_two_processes_wrote_at_once_counts_for_both() -> None:
    lines = [
        "progress 50%      41:\tfile=liba.so [0];  needed by ./p [0]\n",
        "        41:\tfind library=liba.so [0]; searching\n",
        "        41:\t search path=/a:/b        42:\tfile=libb.so [0];  needed by ./q [0]\n",
        "        41:\t  trying file=/a/liba.so        42:\tfind library=libb.so [0]; searching\n",
        "        41:\tfile=liba.so [0];  generating link map\n",
    ]
    trace = parse(lines)
    assert [(entry.pid, entry.name, entry.found) for entry in trace.lookups] == [
        (41, "liba.so", "/a/liba.so"),
        (42, "libb.so", None),
    ]


def test_lines_of_searches_alone_are_read_without_their_requesters() -> None:
    lines = [
        "      5:\tfind library=liba.so [0]; searching\n",
        "      5:\t search path=\t\t(LD_LIBRARY_PATH)\n",
        "      5:\t  trying file=liba.so\n",
        "      5:\t search path=\t\t(RUNPATH from file ./p)\n",
        "      5:\t search path=/x\t\t(some new rule from file ./p)\n",
        "      5:\t search cache=/etc/ld.so.cache\n",
    ]
    lookup = parse(lines).lookups[0]
    assert (lookup.wanted_by, lookup.outcome) == (None, "not-found")
    assert lookup.steps[0] == SearchStep("ld-library-path", None, ("",))
    assert lookup.steps[1] == SearchStep("runpath", "./p", ())
    assert lookup.steps[2] == SearchStep("other", "./p", ("/x",))


PARTS = """\
      1:\t
      2:\t
file=liba.so [0];  needed by ./p [0]
file=/x/b.so [1];  dynamically loaded by ./p [0]
find library=liba.so [0]; searching
 search path=/a::/b\t\t(RPATH from file ./p)
 search path=\t\t(RUNPATH from file ./p)
 search cache=/c
  trying file=/a/liba.so
file=liba.so [0];  generating link map
opening file=/a/liba.so [0]; direct_opencount=2
calling init: /a/liba.so
file=/x/b.so [1];  destroying link map
./p: error: x: y (fatal)
\t\t("""
line_parts = st.sampled_from([*PARTS.split("\n"), "\n", "\udcff"])


@given(st.lists(st.lists(st.one_of(line_parts, st.text(max_size=5)), max_size=5).map("".join), max_size=40))
def test_any_lines_give_facts(lines: list[str]) -> None:
    trace = parse(lines)
    assert trace.lines == len(lines)
    for lookup in trace.lookups:
        assert lookup.found is None or lookup.outcome in ("mapped", "already-mapped")


def test_a_long_trace_is_read_in_time_that_grows_with_its_lines() -> None:
    def seconds(count: int) -> float:
        block = [
            "     1:\tfile=liba.so [0];  needed by ./p [0]\n",
            "     1:\tfind library=liba.so [0]; searching\n",
        ]
        tries = [f"     1:\t  trying file=/dir{number}/liba.so\n" for number in range(98)]
        start = process_time()
        assert parse(line for _ in range(count) for line in block + tries).lines == count * 100
        return process_time() - start

    assert seconds(500) < 40 * min(seconds(50) for _ in range(3))
