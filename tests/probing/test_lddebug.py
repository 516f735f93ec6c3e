"""The reader of the loader's own account, against what really happened to programs built here."""

import itertools
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from envdoctor.probing import maps
from envdoctor.probing.lddebug import LoaderTrace, Lookup, SearchStep, parse

gcc = shutil.which("gcc")
needs_gcc = pytest.mark.skipif(gcc is None, reason="needs gcc")
glibc = pytest.mark.skipif(
    sys.platform != "linux" or not os.confstr("CS_GNU_LIBC_VERSION"), reason="glibc's loader"
)
pytestmark = glibc

MAIN = """
#include <dlfcn.h>
#include <stdio.h>
int leaf(void);
int main(int count, char **names) {
  for (int i = 1; i < count; i++) puts(dlopen(names[i], RTLD_NOW) ? "loaded" : dlerror());
  FILE *file = fopen("/proc/self/maps", "r");
  for (int c; (c = fgetc(file)) != EOF;) putchar(c);
  return 0;
}
"""


class Workshop:
    """Builds libraries in a private folder and runs programs under the loader's debug output."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def library(self, name: str, *options: str, source: str = "", soname: str | None = None) -> str:
        return self._link(
            name, source, "-shared", "-fPIC", f"-Wl,-soname,{soname or os.path.basename(name)}", *options
        )

    def program(self, *options: str, source: str = MAIN) -> str:
        return self._link("prog", source, "-Wl,--no-as-needed", *options)

    def _link(self, name: str, source: str, *options: str) -> str:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        code = self.root / (path.name + ".c")
        code.write_text(source)
        subprocess.run(["gcc", "-o", str(path), str(code), *options], check=True, cwd=self.root)
        return str(path)

    def run(self, *command: str, **environ: str) -> tuple[LoaderTrace, subprocess.CompletedProcess[str]]:
        log = self.root / "log"
        log.mkdir()
        debug = {"LD_DEBUG": "libs,files", "LD_DEBUG_OUTPUT": str(log / "of"), "PATH": os.environ["PATH"]}
        done = subprocess.run(
            command, env={**debug, **environ}, capture_output=True, text=True, check=False, cwd=self.root
        )
        lines = itertools.chain.from_iterable(
            path.read_text().splitlines(True) for path in sorted(log.iterdir())
        )
        trace = parse(lines)
        shutil.rmtree(log)
        return trace, done


@pytest.fixture
def shop(tmp_path: Path) -> Workshop:
    return Workshop(tmp_path)


def the(trace: LoaderTrace, name: str) -> Lookup:
    (found,) = [lookup for lookup in trace.lookups if lookup.name == name]
    return found


def mapped_libraries(text: str) -> set[str]:
    return {file.path for file in maps.parse(text) if ".so" in file.path and "/ld-" not in file.path}


# Silent: what is no trace holds no facts.


def test_a_program_that_needs_nothing_special_has_no_failed_lookup(shop: Workshop) -> None:
    code = "import sys; sys.stdout.write(open('/proc/self/maps').read())"
    trace, done = shop.run(sys.executable, "-I", "-S", "-c", code)
    assert {lookup.outcome for lookup in trace.lookups} <= {"mapped"}
    assert {os.path.realpath(lookup.found) for lookup in trace.lookups if lookup.found} == mapped_libraries(
        done.stdout
    )
    assert trace.errors == ()


# What is found, and by which rule.


@needs_gcc
def test_each_rule_is_named_where_it_decides(shop: Workshop) -> None:
    leaf = shop.library("leaf/libleaf.so.1", source="int leaf(void) { return 0; }")
    mid = shop.library(
        "mid/libmid.so", "-Wl,--no-as-needed", leaf, "-Wl,--disable-new-dtags,-rpath,$ORIGIN/../leaf"
    )
    other = shop.library("other/libother.so")
    program = shop.program(
        mid, other, "-Wl,--enable-new-dtags,-rpath,$ORIGIN/mid", "-Wl,--allow-shlib-undefined", source=MAIN
    )
    trace, done = shop.run(program, LD_LIBRARY_PATH=f"{shop.root}/none:{shop.root}/other")
    assert [(entry.name, entry.found_via) for entry in trace.lookups] == [
        ("libmid.so", "runpath"),
        ("libother.so", "ld-library-path"),
        ("libc.so.6", "cache"),
        ("libleaf.so.1", "rpath"),
    ]
    assert the(trace, "libleaf.so.1").wanted_by == f"{shop.root}/mid/libmid.so"
    assert the(trace, "libleaf.so.1").steps[0].owner == f"{shop.root}/mid/libmid.so"
    assert the(trace, "libmid.so").steps[-1].owner == program
    assert the(trace, "libc.so.6").steps[-1] == SearchStep("cache", "/etc/ld.so.cache", ())
    assert not any(entry.dlopened for entry in trace.lookups)
    assert {os.path.realpath(entry.found or "") for entry in trace.lookups} == mapped_libraries(done.stdout)


@needs_gcc
def test_an_empty_element_is_the_current_directory(shop: Workshop) -> None:
    shop.library("libhere.so")
    program = shop.program("-L.", "-lhere")
    trace, _ = shop.run(program, LD_LIBRARY_PATH=":/none")
    here = the(trace, "libhere.so")
    assert "" in here.steps[0].directories
    assert (here.outcome, here.found, here.found_via) == ("mapped", "libhere.so", "ld-library-path")


@needs_gcc
def test_the_option_of_the_loader_itself_is_a_rule_of_its_own(shop: Workshop) -> None:
    shop.library("lib/libhere.so")
    program = shop.program("-Llib", "-lhere")
    loader = next(
        path for path in ("/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1") if os.path.exists(path)
    )
    trace, _ = shop.run(loader, "--library-path", f"{shop.root}/lib", program)
    assert the(trace, "libhere.so").found_via in ("library-path", "ld-library-path")  # since 2.33, and before


@needs_gcc
def test_a_directory_keeps_the_label_of_whoever_named_it_first(shop: Workshop) -> None:
    """Why a step's rule and owner are not to be taken for the requesting object's own."""
    leaf = shop.library("lib/libleaf.so")
    mid = shop.library("lib/libmid.so", "-Wl,--no-as-needed", leaf, "-Wl,--disable-new-dtags,-rpath,$ORIGIN")
    program = shop.program(mid, "-Wl,--enable-new-dtags,-rpath,$ORIGIN/lib", "-Wl,--allow-shlib-undefined")
    trace, _ = shop.run(program)
    lookup = the(trace, "libleaf.so")
    assert (lookup.wanted_by, lookup.found) == (mid, leaf)
    assert (lookup.steps[0].rule, lookup.steps[0].owner) == ("runpath", program)


@needs_gcc
def test_dlopen_names_the_object_whose_code_asked(shop: Workshop) -> None:
    plug = shop.library("plug/libplug.so")
    opener = (
        '#include <dlfcn.h>\n__attribute__((constructor)) void go(void) { dlopen("libplug.so", RTLD_NOW); }'
    )
    by = shop.library("libopener.so", "-Wl,-rpath,$ORIGIN/plug", source=opener)
    trace, done = shop.run(shop.program(), by)
    asked, nested = the(trace, by), the(trace, "libplug.so")
    assert (asked.dlopened, asked.wanted_by, asked.steps, asked.found) == (True, f"{shop.root}/prog", (), by)
    assert (nested.dlopened, nested.wanted_by, nested.found, nested.found_via) == (True, by, plug, "runpath")
    assert {by, plug} <= mapped_libraries(done.stdout)


@needs_gcc
def test_a_preloaded_file_is_not_a_dlopen(shop: Workshop) -> None:
    first = shop.library("libfirst.so")
    trace, _ = shop.run(shop.program(), LD_PRELOAD=first)
    assert (the(trace, first).outcome, the(trace, first).dlopened) == ("mapped", False)


@needs_gcc
def test_a_need_met_by_a_mapped_file_of_another_name_is_already_mapped(shop: Workshop) -> None:
    real = shop.library("lib/libreal.so.1")
    alias = shop.library("lib/libalias.so")
    program = shop.program(real, alias, "-Wl,-rpath,$ORIGIN/lib:$ORIGIN/more")
    os.remove(alias)
    os.symlink("libreal.so.1", alias)
    trace, done = shop.run(program)
    assert done.returncode == 0
    assert (the(trace, "libalias.so").outcome, the(trace, "libalias.so").found) == ("already-mapped", alias)


@needs_gcc
def test_a_dlopen_that_ends_at_a_mapped_file_is_already_mapped(shop: Workshop) -> None:
    real = shop.library("lib/libreal.so.1")
    os.symlink("libreal.so.1", shop.root / "lib" / "libreal.so")
    trace, done = shop.run(shop.program(), real, "libreal.so", LD_LIBRARY_PATH=f"{shop.root}/lib:/none")
    assert done.stdout.startswith("loaded\nloaded\n")
    assert (the(trace, "libreal.so").outcome, the(trace, "libreal.so").found) == ("already-mapped", real)


# What fails.


@needs_gcc
def test_a_missing_dependency_is_not_found_after_every_step(shop: Workshop) -> None:
    gone = shop.library("lib/libgone.so.12")
    program = shop.program(gone, "-Wl,-rpath,$ORIGIN/lib")
    os.remove(gone)
    trace, done = shop.run(program, LD_LIBRARY_PATH=str(shop.root))
    lookup = the(trace, "libgone.so.12")
    assert "libgone.so.12: cannot open shared object file" in done.stderr
    assert (lookup.outcome, lookup.found, lookup.found_via) == ("not-found", None, None)
    assert [step.rule for step in lookup.steps] == ["ld-library-path", "runpath", "cache", "default"]
    assert gone in lookup.tried
    assert f"{shop.root}/libgone.so.12" in lookup.tried


@needs_gcc
def test_a_failed_dlopen_does_not_spoil_the_next_one(shop: Workshop) -> None:
    gone = shop.library("libgone.so")
    wants = shop.library("libwants.so", "-Wl,--no-as-needed", gone)
    good = shop.library("libgood.so")
    os.remove(gone)
    trace, done = shop.run(shop.program(), "libabsent.so", "libc.so.6", wants, "./none.so", good)
    assert [line for line in done.stdout.splitlines()[:5] if line == "loaded"] == ["loaded"] * 2
    assert [(entry.name, entry.outcome) for entry in trace.lookups[1:]] == [
        ("libabsent.so", "not-found"),
        (wants, "mapped"),
        ("libgone.so", "not-found"),
        ("./none.so", "unclear"),
        (good, "mapped"),
    ]


@needs_gcc
def test_a_search_that_ends_at_an_unusable_file_shows_that_file_last(shop: Workshop) -> None:
    (shop.root / "bad").mkdir()
    empty = shop.root / "bad" / "libnccl.so.2"
    empty.touch()
    trace, done = shop.run(
        shop.program(), "libnccl.so.2", "libc.so.6", LD_LIBRARY_PATH=f"{shop.root}/bad:/none"
    )
    assert "file too short" in done.stdout
    lookup = the(trace, "libnccl.so.2")
    assert (lookup.outcome, lookup.found, lookup.tried[-1]) == ("unclear", None, str(empty))


@needs_gcc
def test_undefined_symbols_and_missing_versions_are_errors(shop: Workshop) -> None:
    undefined = shop.library("libundef.so", source="int nosuch(void); int f(void) { return nosuch(); }")
    (shop.root / "map").write_text("V1 { global: g; };")
    libg = shop.library("libg.so", "-Wl,--version-script=map", source="int g(void) { return 0; }")
    wants = shop.library(
        "libwants.so", libg, "-Wl,-rpath,$ORIGIN", source="int g(void); int h(void) { return g(); }"
    )
    (shop.root / "map").write_text("V2 { global: g; };")
    shop.library("libg.so", "-Wl,--version-script=map", source="int g(void) { return 0; }")
    trace, _ = shop.run(shop.program(), undefined, wants)
    assert [(error.file, error.occasion) for error in trace.errors] == [
        (undefined, "symbol lookup error"),
        (libg, "version lookup error"),
    ]
    assert trace.errors[0].message == "undefined symbol: nosuch"
    assert "V1" in trace.errors[1].message
    assert wants in trace.errors[1].message


# Mixed and torn lines.

THREADS = """
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
static void *load(void *name) { return dlopen(name, RTLD_NOW); }
int main(int count, char **names) {
  pthread_t threads[64];
  for (int i = 1; i < count; i++) pthread_create(&threads[i], 0, load, names[i]);
  for (int i = 1; i < count; i++) pthread_join(threads[i], 0);
  return 0;
}
"""


@needs_gcc
def test_threads_that_load_at_once_keep_their_lookups_apart(shop: Workshop) -> None:
    names = [f"libt{number}.so" for number in range(24)]
    for name in names:
        shop.library(f"lib/{name}")
    program = shop.program("-Wl,-rpath,$ORIGIN/none:$ORIGIN/lib", "-pthread", source=THREADS)
    trace, _ = shop.run(program, *names)
    found = {lookup.name: lookup.found for lookup in trace.lookups if lookup.dlopened}
    assert found == {name: f"{shop.root}/lib/{name}" for name in names}


@needs_gcc
def test_processes_that_share_a_pipe_with_each_other_are_told_apart(shop: Workshop) -> None:
    lib = shop.library("lib/liba.so")
    program = shop.program(lib, "-Wl,-rpath,$ORIGIN/lib")
    environ = {"LD_DEBUG": "libs,files"}
    read, write = os.pipe()
    children = [
        subprocess.Popen([program], env=environ, stderr=write, stdout=subprocess.DEVNULL) for _ in range(6)
    ]
    os.close(write)
    with os.fdopen(read) as file:
        trace = parse(file)
    assert {child.wait() for child in children} == {0}
    for child in children:
        found = {entry.name: entry.found for entry in trace.lookups if entry.pid == child.pid}
        assert found["liba.so"] == lib
        assert found["libc.so.6"]


@needs_gcc
def test_the_loaders_last_words_are_kept_where_they_are_among_the_lines(shop: Workshop) -> None:
    gone = shop.library("libgone.so")
    program = shop.program(gone)
    os.remove(gone)
    done = subprocess.run(
        [program], env={"LD_DEBUG": "libs,files"}, capture_output=True, text=True, check=False
    )
    lookup = the(parse(done.stderr.splitlines()), "libgone.so")
    assert lookup.error == "libgone.so: cannot open shared object file: No such file or directory"
