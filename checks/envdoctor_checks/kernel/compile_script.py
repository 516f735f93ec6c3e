"""The script of the compile-and-load probe, for the target interpreter. Python 3.8 and later, standard library only.

One file with everything is compiled first; only where that fails are the stages tried one by one, to see which it is.
"""

SCRIPT = r"""
import ctypes
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile


# From where Inductor would load it. A disk without room for a folder is told by the compiler.
def folder():
    wanted = os.environ.get("TORCHINDUCTOR_CACHE_DIR") or tempfile.gettempdir()
    try:
        os.makedirs(wanted, exist_ok=True)
    except OSError:
        return tempfile.gettempdir()
    return wanted


FOLDER = folder()
C = "int answer(void) { return 42; }\n"
CXX = "#include <vector>\nextern \"C\" int answer() { return (int)std::vector<int>(42).size(); }\n"
PYTHON = "#include <Python.h>\n#include <vector>\nextern \"C\" int answer() { return (int)std::vector<int>(42).size() + 0 * PY_MAJOR_VERSION; }\n"
OPENMP = "#include <omp.h>\n#include <vector>\nextern \"C\" int answer() { return omp_get_max_threads() > 0 ? 42 : 0; }\n"
WHOLE = "#include <Python.h>\n#include <omp.h>\n#include <vector>\nextern \"C\" int answer() { return omp_get_max_threads() > 0 ? 42 : PY_MAJOR_VERSION; }\n"
INCLUDES = ["-I" + path for path in dict.fromkeys(sysconfig.get_paths()[key] for key in ("include", "platinclude"))]

def compiler(variable, names):
    value = os.environ.get(variable)
    if value:
        return shlex.split(value)
    found = next((name for name in names if shutil.which(name)), None)
    return [found] if found else None

def start(command, name, source, flags):
    path = os.path.join(FOLDER, name)
    with open(path, "w") as file:
        file.write(source)
    whole = command + ["-shared", "-fPIC"] + flags + [name, "-o", name.rpartition(".")[0] + ".so"]
    try:
        process = subprocess.Popen(whole, cwd=FOLDER, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    except OSError as error:
        return whole, None, str(error)
    return whole, process, ""

def tell(stage, started):
    whole, process, output = started
    ok = False
    if process is not None:
        text, _ = process.communicate()
        output = text.decode("utf-8", "replace").replace(FOLDER + os.sep, "")
        ok = process.returncode == 0
    answer(stage, ok=ok, command=" ".join(whole), output="" if ok else output[:4000])
    return ok

def missing(stage, variable, names):
    said = "%s is not on PATH" % " or ".join(names)
    answer(stage, ok=False, command="", output=said)

def load(name):
    try:
        got = ctypes.CDLL(os.path.join(FOLDER, name)).answer()
    except Exception as error:
        answer("load", ok=False, command="dlopen", output=str(error).replace(FOLDER + os.sep, "")[:4000])
        return
    answer("load", ok=got == 42, command="dlopen", output="" if got == 42 else "the function answered %d" % got)

def main():
    try:
        import getpass
        answer("user", name=getpass.getuser())
    except Exception as error:
        answer("user", name=None, error=str(error))
    answer("compiling")
    cc = compiler("CC", ("gcc", "clang"))
    cxx = compiler("CXX", ("g++",))
    openmp = ["-Xclang", "-fopenmp", "-lomp"] if sys.platform == "darwin" else ["-fopenmp"]
    c_job = start(cc, "c.c", C, []) if cc else None
    whole = start(cxx, "whole.cpp", WHOLE, openmp + INCLUDES) if cxx else None
    c_ok = tell("c", c_job) if c_job else missing("c", "CC", ("gcc", "clang"))
    if not cxx:
        missing("cxx", "CXX", ("g++",))
        if c_ok:
            load("c.so")
        return
    if whole[1] is not None:
        whole[1].communicate()
    if whole[1] is not None and whole[1].returncode == 0:
        for stage in ("cxx", "python-h", "openmp"):
            answer(stage, ok=True, command=" ".join(whole[0]), output="")
        load("whole.so")
        return
    jobs = [("cxx", "cxx.cpp", CXX, []), ("python-h", "python.cpp", PYTHON, INCLUDES), ("openmp", "openmp.cpp", OPENMP, openmp)]
    started = [(stage, name, start(cxx, name, source, flags)) for stage, name, source, flags in jobs]
    told = {name: tell(stage, job) for stage, name, job in started}
    good = [name for name, ok in told.items() if ok] or (["c.c"] if c_ok else [])
    if good:
        load(good[0].rpartition(".")[0] + ".so")

main()
done()
"""
