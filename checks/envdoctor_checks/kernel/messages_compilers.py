"""What is printed where a compiler, a header, OpenMP or ninja is missing."""

from __future__ import annotations

import re

from envdoctor_checks.kernel.check import check
from envdoctor_checks.kernel.symptoms import (
    CompilerNotFound,
    HeaderNotFound,
    HostCompilerRefused,
    InstructionUnknown,
    LinkLibraryNotFound,
    NinjaNotFound,
    OpenmpRefused,
)

GCC = r"(?:[\w.-]*-)?(?:gcc|cc|clang)(?:-[\d.]+)?"
GXX = r"(?:[\w.-]*-)?(?:g\+\+|c\+\+|clang\+\+)(?:-[\d.]+)?"


@check.message(
    r"Failed to find C compiler(?!\w)|(?<!\w)No C compiler found|No CMAKE_C_COMPILER could be found|"
    rf"(?:unable to execute|command) '(?P<distutils>{GCC})'(?: failed)?: (?:No such file|command not found)|"
    rf"FileNotFoundError: \[Errno 2\] No such file or directory: '(?P<python>{GCC})'|"
    rf"(?:^|(?<!type): )(?P<shell>{GCC}): (?:command )?not found|configure: error: no acceptable C compiler",
    needles=(
        "c compiler",
        "cmake_c_compiler",
        "unable to execute",
        "no such file",
        "command not found",
        ": not found",
    ),
    sample="RuntimeError: Failed to find C compiler. Please specify via CC environment variable.",
)
def c_compiler(match: re.Match[str]) -> CompilerNotFound:
    """Triton's words, those of distutils, of CMake and of the shell."""
    return CompilerNotFound(language="c", name=match["distutils"] or match["python"] or match["shell"] or "")


@check.message(
    r"No working C\+\+ compiler found in \S*cpp\.cxx: \(?(?:None, )?'?(?P<inductor>[^')\s]*)|InvalidCxxCompiler(?!\w)|"
    r"No CMAKE_CXX_COMPILER could be found|"
    rf"(?:unable to execute|command) '(?P<distutils>{GXX})'(?: failed)?: (?:No such file|command not found)|"
    rf"FileNotFoundError: \[Errno 2\] No such file or directory: '(?P<python>{GXX})'|(?:^|(?<!type): )(?P<shell>{GXX}): (?:command )?not found|"
    r"(?:cannot execute|error trying to exec) [`'‘\"]?cc1plus|cannot find -lstdc\+\+",
    needles=(
        "c++ compiler",
        "invalidcxxcompiler",
        "cmake_cxx_compiler",
        "unable to execute",
        "no such file",
        "not found",
        "cc1plus",
        "-lstdc++",
    ),
    sample="InductorError: InvalidCxxCompiler: No working C++ compiler found in torch._inductor.config.cpp.cxx: (None, 'some-g++')",
)
def cxx_compiler(match: re.Match[str]) -> CompilerNotFound:
    """Inductor's words, those of distutils, CMake and the shell; GCC without its C++ part."""
    named = match["inductor"] or match["distutils"] or match["python"] or match["shell"] or ""
    return CompilerNotFound(language="c++", name=named)


@check.message(
    r"Compiler: (?P<name>\S+) is not found\.|Microsoft Visual C\+\+ 14\.\d+ or greater is required|MSVC is required to load C\+\+ extensions|"
    r"Cannot find compiler '(?P<nvcc>cl\.exe)' in PATH|'cl' is not recognized as an internal|Error checking compiler version for cl\b",
    needles=(
        "compiler: ",
        "microsoft visual c++",
        "msvc is required",
        "cl.exe",
        "'cl' is not",
        "version for cl",
    ),
    sample="torch._inductor.exc.InductorError: RuntimeError: Compiler: cl is not found.",
)
def msvc(match: re.Match[str]) -> CompilerNotFound:
    """On Windows, cl.exe is on PATH in a Developer Prompt only."""
    name = match["name"] or match["nvcc"] or "cl"
    return CompilerNotFound(language="c++", name=name, msvc=name.startswith(("cl", "CL")))


@check.message(
    r"(?:(?P<by>(?:[A-Za-z]:)?[^\s:()]+\.\w+)[:(]\d+[^\n]*?)?(?:catastrophic |fatal )?error(?: C1083)?: ?(?:"
    r"(?P<gcc>[\w./+-]+): No such file or directory|'(?P<clang>[\w./+-]+)' file not found|"
    r"cannot open source file \"(?P<edg>[\w./+-]+)\"|[^':\n]*: '(?P<msvc>[\w./+-]+)': )",
    needles=("error: ", "error c1083"),
    sample="/tmp/x/main.c:4:10: fatal error: some_header.h: No such file or directory",
)
def header(match: re.Match[str]) -> HeaderNotFound | None:
    """GCC, Clang, nvcc's own front end and MSVC; only what is a header by its name."""
    name = match["gcc"] or match["clang"] or match["edg"] or match["msvc"]
    is_header = re.search(r"\.(?:h|hh|hpp|hxx|cuh|inl)$", name) or "/" in name
    if not is_header and not ("fatal" in match.group() and re.fullmatch(r"[a-z_]+", name)):
        return None  # the standard library's have no ending: <vector>
    return HeaderNotFound(header=name, wanted_by=match["by"] or "")


@check.message(
    r"Can't find Python\.h in (?P<folder>\S+)",
    needles="can't find python.h",
    sample="UserWarning: Can't find Python.h in /x/include/python3.11",
)
def no_python_header(match: re.Match[str]) -> HeaderNotFound:
    """Inductor's warning, before the compiler says the same."""
    return HeaderNotFound(header="Python.h", wanted_by=match["folder"])


@check.message(
    r"cannot find -l(?P<library>(?!cuda\b|stdc\+\+)[\w.+-]+)|library not found for -l(?P<apple>[\w.+-]+)|"
    r"library '(?P<new>[\w.+-]+)' not found$|unable to find library -l(?P<lld>(?!cuda\b)[\w.+-]+)",
    needles=("cannot find -l", "library not found for -l", "library '", "unable to find library -l"),
    sample="/usr/bin/ld: cannot find -lsomething: No such file or directory",
)
def link_library(match: re.Match[str]) -> LinkLibraryNotFound:
    """The linker; -lcuda is the driver's."""
    return LinkLibraryNotFound(library=match["library"] or match["apple"] or match["new"] or match["lld"])


@check.message(
    r"unsupported option '-fopenmp'|libgomp\.spec: No such file|OpenMP support not found|OpenMP is not supported|"
    r"Could NOT find OpenMP(?!_CUDA)|fatal error: [^\n]*: -fopenmp",
    needles=(
        "-fopenmp",
        "libgomp.spec",
        "openmp support not found",
        "openmp is not supported",
        "could not find openmp",
    ),
    sample="clang: error: unsupported option '-fopenmp'",
)
def openmp(match: re.Match[str]) -> OpenmpRefused:
    """Apple's Clang, a GCC without libgomp, Inductor's advice and CMake."""
    return OpenmpRefused()


@check.message(
    r"Error: (?:no such instruction: [`'](?P<gas>\w+)|(?:unsupported instruction|operand type mismatch for|invalid instruction suffix for|unknown mnemonic) [`'](?P<other>\w+)|"
    r"selected processor does not support [`'](?P<arm>\w+))|error: (?:invalid instruction mnemonic|instruction requires:? \S+.*) '?(?P<llvm>\w*)",
    needles=(
        "no such instruction",
        "unsupported instruction",
        "operand type mismatch",
        "invalid instruction",
        "unknown mnemonic",
        "selected processor does not support",
        "instruction requires",
    ),
    sample="/tmp/ccX.s: Assembler messages:\n/tmp/ccX.s:12: Error: no such instruction: `somenewinstruction %ymm0'",
    span=2,
)
def instruction(match: re.Match[str]) -> InstructionUnknown:
    """GNU as and LLVM's."""
    return InstructionUnknown(
        instruction=match["gas"] or match["other"] or match["arm"] or match["llvm"] or ""
    )


@check.message(
    r"Ninja is required to load C\+\+ extensions|FileNotFoundError: \[(?:Errno|WinError) 2\][^\n]*'ninja'|(?:^|: )ninja: (?:command )?not found|"
    r"unable to find a build program corresponding to \"Ninja\"|Command '\['ninja', '--version'\]'|'ninja' is not recognized as an internal|"
    r"(?P<soft>we could not find ninja)",
    needles=("ninja",),
    sample="RuntimeError: Ninja is required to load C++ extensions (pip install ninja to get it)",
)
def ninja(match: re.Match[str]) -> NinjaNotFound:
    """torch.utils.cpp_extension, FlashInfer, CMake and the shell; BuildExtension only warns."""
    return NinjaNotFound(fatal=match["soft"] is None)


@check.message(
    r"unsupported GNU version! gcc versions later than (?P<gcc>\d+) are not supported|"
    r"unsupported clang version! clang version must be less than (?P<clang>\d+)|(?P<msvc>unsupported Microsoft Visual Studio version!)",
    needles=("unsupported gnu version", "unsupported clang version", "unsupported microsoft visual studio"),
    sample="#error -- unsupported GNU version! gcc versions later than 99 are not supported!",
)
def host_config(match: re.Match[str]) -> HostCompilerRefused:
    """The header crt/host_config.h that nvcc includes first."""
    if match["msvc"]:
        return HostCompilerRefused(family="msvc")
    if match["clang"]:
        return HostCompilerRefused(family="clang", newest=str(int(match["clang"]) - 1))
    return HostCompilerRefused(family="gcc", newest=match["gcc"])


@check.message(
    r"current installed version of (?P<name>\S+) \((?P<found>[\d.]+)\) is greater than the maximum required version by CUDA (?P<cuda>[\d.]+)"
    r"(?:[\s\S]*?[<≤]=?(?P<limit>\d+)[\d.]*\))?",
    needles="greater than the maximum required version",
    sample="RuntimeError: The current installed version of g++ (99.2.1) is greater than the maximum required version by CUDA 12.1.\n"
    "Please make sure to use an adequate version of g++ (>=6.0.0, <13.0).",
    span=2,
)
def torch_bounds(match: re.Match[str]) -> HostCompilerRefused:
    """torch.utils.cpp_extension, which has the bounds in a table of its own."""
    clang = "clang" in match["name"]
    newest = str(int(match["limit"]) - 1) if match["limit"] else None
    return HostCompilerRefused(
        family="clang" if clang else "gcc", newest=newest, found=match["found"], nvcc_cuda=match["cuda"]
    )


@check.message(
    r"exception specification is incompatible with that of previous function \"(?:cospi|sinpi|rsqrt|cospif|sinpif|rsqrtf)|"
    r"identifier \"_Float(?:32|64|128|32x|64x)\" is undefined|(?P<gcc>error: parameter packs not expanded with ['‘]\.\.\.)",
    needles=("exception specification is incompatible", 'identifier "_float', "parameter packs not expanded"),
    sample='/usr/include/x.h(79): error: exception specification is incompatible with that of previous function "cospi"',
)
def newer_system_headers(match: re.Match[str]) -> HostCompilerRefused:
    """nvcc reads headers of a newer C library (glibc 2.41 against CUDA before 12.9) or of a newer GCC than it knows."""
    return HostCompilerRefused(family="gcc" if match["gcc"] else "glibc")
