"""The script that compiles a small kernel for GPUs that are not here. Python 3.8 and later, standard library and Triton.

Triton compiles for a target that it is told, and looks for no driver then. torch is not imported. A kernel must lie in
a file, because Triton reads its source.
"""

SCRIPT = r"""
import importlib.util
import os
import re
import sys
import tempfile
import time

FOLDER = tempfile.gettempdir()
for name, folder in (("TRITON_CACHE_DIR", "cache"), ("TRITON_HOME", ""), ("TRITON_DUMP_DIR", "dump")):
    os.environ[name] = os.path.join(FOLDER, folder)
os.environ.pop("TRITON_CACHE_MANAGER", None)
os.environ.pop("TRITON_INTERPRET", None)

KERNEL = '''
import triton
import triton.language as tl

@triton.jit
def scaled(source, result, count):
    index = tl.program_id(0) * 128 + tl.arange(0, 128)
    tl.store(result + index, tl.load(source + index, mask=index < count) * 2.0, mask=index < count)
'''
SIGNATURE = {"source": "*fp32", "result": "*fp32", "count": "i32"}

def kernel():
    path = os.path.join(FOLDER, "scaled.py")
    with open(path, "w") as file:
        file.write(KERNEL)
    spec = importlib.util.spec_from_file_location("scaled", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.scaled

def told(pattern, text):
    found = re.search(pattern, text, re.MULTILINE)
    return found.group(1) if found else None

def compile_for(name, function):
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource
    answer("compiling", architecture=name)
    began = time.monotonic()
    try:
        target = GPUTarget("cuda", int(re.sub(r"\D", "", name)), 32)
        compiled = triton.compile(ASTSource(fn=function, signature=SIGNATURE), target=target)
        ptx, cubin = compiled.asm["ptx"], compiled.asm["cubin"]
    except Exception as error:
        text = "%s: %s" % (type(error).__name__, error)
        answer("failed", architecture=name, seconds=time.monotonic() - began, error=text.replace(FOLDER + os.sep, "")[-4000:])
        return
    answer(
        "compiled", architecture=name, seconds=time.monotonic() - began, bytes=len(cubin),
        version=told(r"^\.version (\S+)", ptx), target=told(r"^\.target (\w+)", ptx),
    )

def main():
    answer("importing")
    import triton
    answer("triton", version=triton.__version__)
    from triton.backends.compiler import GPUTarget
    function = kernel()
    answer("ready")
    for name in sys.argv[1:]:
        compile_for(name, function)

main()
done()
"""
