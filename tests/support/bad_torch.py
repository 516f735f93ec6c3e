"""A torch of our own that misbehaves at one place: at its import, at the first question, in a compiler, in a collective.

Before it does, it leaves a file and shared memory about, as libraries do that are ended in the middle of their work.
"""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.support.environments import Environment

TORCH = """
import os, signal, sys, tempfile, time

def at(place):
    if place == PLACE:
        litter()
        misbehave()

def litter():
    # As torch, NCCL and compilers do when they are ended in the middle: files, and memory that is mapped by name.
    import mmap
    open(os.path.join(tempfile.gettempdir(), "litter"), "w").close()
    # A crash that follows at once leaves no time to see whose the mapping is: there torch's only, named after it.
    for name in ["torch_%d_" % os.getpid()] + ["nccl-"] * HANGS:
        with open("/dev/shm/" + name + os.environ["MARK"], "w+b") as file:
            file.truncate(4096)
            KEPT.append(mmap.mmap(file.fileno(), 4096))

KEPT = []
def orphan():
    # A process of a session of its own whose parents are gone.
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            time.sleep(600)
        os._exit(0)
    os.wait()

at("import")

class Thing:
    # Any tensor, device or function.
    def __getattr__(self, name):
        return self
    def __call__(self, *arguments, **named):
        return self
    def __int__(self):
        return 0
    __getitem__ = __add__ = __sub__ = __mul__ = __matmul__ = __ne__ = __call__

nn = sigmoid = tanh = zeros = zeros_like = ones = arange = device = randn = float32 = thing = Thing()
Generator = type("Generator", (), {"manual_seed": lambda self, seed: self})
is_tensor = equal = lambda *arguments: True

def randint(*arguments, **named):
    at("allocate")
    return thing

class cuda:
    class nccl: version = staticmethod(lambda: (2, 27, 3))
    device_count = staticmethod(lambda: 0)
    @staticmethod
    def is_available():
        at("is_available")
        return False
    @staticmethod
    def init(): raise RuntimeError("No CUDA GPUs are available")
class backends:
    class cudnn: version = staticmethod(lambda: 91002)
class _C: _cuda_getArchFlags = staticmethod(lambda: "sm_90")
"""
MODULES = {
    "_dynamo/__init__.py": "import torch\ntorch.at('compile')\n",
    "_inductor/__init__.py": "",
    "_inductor/compile_fx.py": "",
    "distributed/__init__.py": """
import os, torch
is_available = lambda: True
init_process_group = all_gather = broadcast = barrier = destroy_process_group = torch.thing
P2POp = isend = irecv = torch.thing
batch_isend_irecv = lambda ways: []
def all_reduce(data):
    if os.environ["RANK"] == "1":
        torch.at("collective")
""",
    "distributed/rendezvous.py": """
class Store:
    set = wait = lambda self, *arguments: None
    get = lambda self, key: b"here"
def rendezvous(url, timeout): return iter([(Store(), 0, 2)])
""",
}
HANG = "time.sleep(600)"
DEAF = f"signal.signal(signal.SIGTERM, signal.SIG_IGN)\n{HANG}"
BUS = """
import mmap
with open(os.path.join(tempfile.gettempdir(), "short"), "w+b") as file:
    file.truncate(4096)
    area = mmap.mmap(file.fileno(), 4096)
    file.truncate(0)
    area[0]
"""
SEGV = "import ctypes\nctypes.string_at(0)"
EAT = """
import signal
with open(os.environ["CGROUP"] + "/cgroup.procs", "w") as file: file.write(str(os.getpid()))
kept = [bytearray(b"x") * (1 << 20) for _ in range(400)]
"""
FLOOD = """
line = b"x" * 1023 + b"\\n"
for _ in range(1024): os.write(2, line * 1024)
"""
HALF = """
pipes = [int(fd) for fd in os.listdir("/proc/self/fd") if int(fd) > 2 and os.path.exists("/proc/self/fd/" + fd)]
answers = [fd for fd in pipes if os.readlink("/proc/self/fd/%d" % fd).startswith("pipe:")]
os.write(answers[0], b'{"stage": "im')
os._exit(0)
"""
FREEZES = "open(os.environ['FROZEN'] + '/file', 'w')"


def source(place: str, act: str) -> str:
    """The text of the package. `act` is run at `place`; MARK of the environment is in the shared memory's names."""
    head = f"PLACE, HANGS = {place!r}, {'sleep' in act}\n"
    body = "def misbehave():\n    import os, signal, tempfile, time\n" + textwrap.indent(act, "    ")
    return f"{head}{body}\n{TORCH}"


def complete(made: Environment) -> None:
    """Its other modules, once the package is there."""
    for name, text in MODULES.items():
        path = made.site / "torch" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
