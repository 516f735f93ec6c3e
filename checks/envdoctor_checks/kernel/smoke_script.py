"""The smoke test's programs, for the target interpreter: Python 3.8 and later, the standard library and torch.

Every stage is announced before it is tried, so that one that crashes or hangs is known by name. `EAGER` is a part of
the child that imports torch, which calls ``eager``. `SCRIPT` is a child of its own; its arguments: the device (``cpu``
or ``cuda``), ``deep`` or nothing, and nvcc's path or nothing.
"""

from envdoctor_checks.kernel.smoke_gpu_script import GPU_STAGES

EAGER = r"""
import time
import traceback

class WrongResult(Exception):
    pass

class LeftOut(Exception):
    pass

def tail(text, size):
    return text if len(text) <= size else "..." + text[-size:]

def stage(name, action):
    # One step: whether it passed. What it raises is told; the next steps may still be tried.
    answer("trying", what=name)
    began = time.monotonic()
    try:
        fields = action() or {}
    except LeftOut as reason:
        answer("left-out", what=name, said=str(reason))
        return False
    except BaseException as error:
        lines = traceback.format_exception(type(error), error, error.__traceback__)
        answer(
            "failed", what=name, seconds=time.monotonic() - began, exception=type(error).__name__,
            said=tail(str(error).strip(), 3000), traceback=tail("".join(lines), 12000),
        )
        return False
    answer("passed", what=name, seconds=time.monotonic() - began, fields=fields)
    return True

def synchronize():
    if DEVICE == "cuda":
        torch.cuda.synchronize()

def integers(rows, columns, dtype=None):
    # Small integers: float32, TF32 and bfloat16 hold them, and float32 their sums, exactly: any difference is an error.
    generator = torch.Generator().manual_seed(7)
    return torch.randint(-2, 3, (rows, columns), generator=generator).to(dtype or torch.float32)

def same(got, expected, what, **tolerance):
    if torch.is_tensor(got) and got.dtype == expected.dtype and torch.equal(got, expected):
        return  # without torch.testing, whose import takes a second
    try:
        torch.testing.assert_close(got, expected, **tolerance)
    except AssertionError as error:
        raise WrongResult("%s: %s" % (what, error))

def import_torch():
    global torch
    import torch
    return {"torch": str(torch.__version__)}

def allocate():
    global x, y
    x = integers(256, 256).to(DEVICE)
    y = integers(256, 256).t().contiguous().to(DEVICE)
    synchronize()
    if DEVICE == "cuda":
        properties = torch.cuda.get_device_properties(0)
        answer("gpu", name=properties.name, compute_capability="%d.%d" % (properties.major, properties.minor))

def matmul():
    got = (x @ y).cpu().double()
    same(got, x.cpu().double() @ y.cpu().double(), "the product of two matrices", rtol=0, atol=0)

def copy():
    stream = torch.cuda.Stream()
    there = torch.arange(1 << 20, dtype=torch.float32).pin_memory()
    back = torch.empty_like(there).pin_memory()
    with torch.cuda.stream(stream):
        back.copy_(there.to(DEVICE, non_blocking=True), non_blocking=True)
    stream.synchronize()
    same(back, there, "a copy to the GPU and back", rtol=0, atol=0)

def eager(module, device):
    global torch, DEVICE
    torch, DEVICE = module, device
    answer("smoke", device=device)
    if stage("allocate", allocate) and stage("matmul", matmul) and DEVICE == "cuda":
        stage("copy", copy)
"""

COMPILE = r"""
import os
import sys

DEVICE, DEEP, NVCC = (sys.argv[1:] + [""] * 3)[:3]

def begin():
    if not stage("import", import_torch):
        return False
    if not hasattr(torch, "randint"):
        answer("not-torch")
        return False
    return stage("allocate", allocate)

def fused(a, b):
    mixed = torch.nn.functional.gelu(a * 1.5 + b) * torch.sigmoid(b) + torch.tanh(a) * 0.5 - a * b * 0.25
    return mixed.sum(dim=-1)

def inputs():
    global p, q, reference, gradients
    generator = torch.Generator().manual_seed(11)
    p, q = (torch.randn(512, 1024, generator=generator).to(DEVICE).requires_grad_() for _ in range(2))
    reference = fused(p, q)
    reference.sum().backward()
    gradients = p.grad.clone(), q.grad.clone()
    p.grad = q.grad = None
    synchronize()

def import_compiler():
    import torch._dynamo
    import torch._inductor.compile_fx

def vector_isa():
    try:
        from torch._inductor.cpu_vec_isa import pick_vec_isa
    except ImportError:
        from torch._inductor.codecache import pick_vec_isa
    return {"isa": str(pick_vec_isa())}

def cold():
    global compiled, result
    before = spent()
    compiled = torch.compile(fused)
    result = compiled(p, q)
    synchronize()
    return {"spent": {name: value - before[name] for name, value in spent().items()}}

def spent():
    # What Inductor says that it spent in compilers, by its own count: a name and the seconds of each call.
    metrics = getattr(torch._dynamo.utils, "compilation_time_metrics", {})
    return {name: round(sum(metrics.get(name, ())), 3) for name in ("compile_file", "inductor_codecache_torch_key")}

def compare():
    same(result, reference, "the compiled result against the eager one")

def backward():
    result.sum().backward()
    synchronize()
    same((p.grad, q.grad), gradients, "the compiled gradients against the eager ones")
    p.grad = q.grad = None

def hits():
    counters = getattr(torch._dynamo.utils, "counters", None)
    return None if counters is None else counters["inductor"]["fxgraph_cache_hit"] + counters["aot_autograd"]["autograd_cache_hit"]

def warm():
    torch._dynamo.reset()
    before = hits()
    again = compiled(p, q)
    synchronize()
    after = hits()
    same(again, reference, "the result from the warm cache against the eager one")
    return {"cached": None if before is None else after > before}

def best(function, *arguments):
    # Seconds of one call: the fastest of several rounds, which noise only makes slower.
    times = []
    for _ in range(7):
        synchronize()
        began = time.perf_counter()
        for _ in range(5):
            function(*arguments)
        synchronize()
        times.append((time.perf_counter() - began) / 5)
    return min(times)

def speed():
    slow, fast = best(fused, p, q), best(compiled, p, q)
    return {"eager": slow, "compiled": fast}

def dynamic():
    shaped = torch.compile(fused, dynamic=True)
    for rows in (3, 17, 65):
        a, b = torch.randn(rows, 1024, device=DEVICE), torch.randn(rows, 1024, device=DEVICE)
        same(shaped(a, b), fused(a, b), "the result for %d rows" % rows)

def compiling():
    if not begin() or not stage("eager", inputs) or not stage("import-compiler", import_compiler):
        return
    stage("triton", triton_used) if DEVICE == "cuda" else stage("vector-isa", vector_isa)
    if stage("cold", cold):
        stage("compare", compare)
        stage("backward", backward)
        stage("warm", warm)
        stage("speed", speed)
        if DEVICE == "cuda":
            stage("cuda-graphs", cuda_graphs)
        if DEEP:
            stage("dynamic-shapes", dynamic)
    if DEVICE == "cuda":
        on_gpu()
"""

MAIN = r"""
compiling()
done()
"""

SCRIPT = EAGER + COMPILE + GPU_STAGES + MAIN
