"""The stages of the smoke test's child that only a GPU has."""

GPU_STAGES = r"""
CU = '''
#include <cuda_runtime.h>
__global__ void fill(int *out) { *out = 42; }
extern "C" int answer_of_gpu() {
    int *there = 0, here = 0;
    cudaError_t error = cudaMalloc((void **)&there, sizeof(int));
    if (error == cudaSuccess) { fill<<<1, 1>>>(there); error = cudaGetLastError(); }
    if (error == cudaSuccess) error = cudaMemcpy(&here, there, sizeof(int), cudaMemcpyDeviceToHost);
    cudaFree(there);
    return error == cudaSuccess ? here : -(int)error;
}
'''

def capability():
    major, minor = torch.cuda.get_device_capability(0)
    return major * 10 + minor

def ptxas_of(arch):
    # Where Triton keeps it has moved: knobs (3.3 and later), functions of the backend before.
    from triton.backends.nvidia import compiler
    if hasattr(compiler, "get_ptxas"):
        try:
            tool = compiler.get_ptxas(arch)
        except TypeError:
            tool = compiler.get_ptxas()
    elif hasattr(compiler, "_path_to_binary"):
        tool = compiler._path_to_binary("ptxas")
    else:
        from triton import knobs
        tool = knobs.nvidia.ptxas
    if isinstance(tool, tuple):
        return tool[0], tool[1]
    return tool.path, tool.version

def triton_used():
    import triton
    told = {"triton": str(triton.__version__)}
    try:
        path, version = ptxas_of(capability())
        told.update(ptxas=str(path), ptxas_cuda=str(version))
    except Exception as error:  # names of Triton's that come and go: the kernel itself is tried next
        told["ptxas_error"] = "%s: %s" % (type(error).__name__, error)
    return told

def cuda_graphs():
    graphed = torch.compile(fused, mode="reduce-overhead")
    with torch.no_grad():
        for _ in range(4):  # warmed up, recorded, and replayed
            mark = getattr(torch.compiler, "cudagraph_mark_step_begin", None)
            if mark is not None:
                mark()
            got = graphed(p, q).clone()
    synchronize()
    same(got, reference.detach(), "the result of a replayed CUDA graph")

def bfloat16():
    if capability() < 80:
        raise LeftOut("the GPU is below compute capability 8.0")
    a, b = (integers(256, 256, torch.bfloat16).to(DEVICE) for _ in range(2))
    same((a @ b).float().cpu(), a.float().cpu() @ b.float().cpu(), "a bfloat16 product", rtol=1e-2, atol=1e-2)

def float8():
    if capability() < 89:
        raise LeftOut("the GPU is below compute capability 8.9")
    if not hasattr(torch, "float8_e4m3fn") or not hasattr(torch, "_scaled_mm"):
        raise LeftOut("this torch has no float8_e4m3fn or no _scaled_mm")
    a = integers(256, 256).to(DEVICE)
    one = torch.ones((), device=DEVICE)
    low = a.to(torch.float8_e4m3fn)
    got = torch._scaled_mm(low, low.t(), scale_a=one, scale_b=one, out_dtype=torch.bfloat16)
    got = got[0] if isinstance(got, tuple) else got  # torch 2.4 and earlier also give the largest value
    same(got.float(), a @ a.t(), "an FP8 product", rtol=2e-2, atol=2e-1)

def autotune():
    tuned = torch.compile(lambda a, b: torch.relu(a @ b), mode="max-autotune")
    a, b = (integers(512, 512, torch.float16).to(DEVICE) for _ in range(2))
    same(tuned(a, b), torch.relu(a @ b), "the result of max-autotune", rtol=1e-2, atol=1e-1)

def cuda_source():
    if not NVCC:
        raise LeftOut("there is no nvcc: no toolkit, or one without its compiler")
    import ctypes
    import subprocess
    import tempfile
    folder = tempfile.mkdtemp()
    source, library = os.path.join(folder, "fill.cu"), os.path.join(folder, "fill.so")
    with open(source, "w") as file:
        file.write(CU)
    command = [NVCC, "-arch=sm_%d" % capability(), "-shared", "-Xcompiler", "-fPIC", "-cudart", "static", source, "-o", library]
    done_by = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done_by.returncode:
        raise RuntimeError("%s\n%s" % (" ".join(command), done_by.stdout.decode("utf-8", "replace")))
    got = ctypes.CDLL(library).answer_of_gpu()
    if got < 0:
        raise RuntimeError("CUDA error %d when the compiled kernel was launched" % -got)
    if got != 42:
        raise WrongResult("the compiled kernel gave %d for 42" % got)

def seconds_of(action, rounds):
    action()
    synchronize()
    first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    first.record()
    for _ in range(rounds):
        action()
    last.record()
    synchronize()
    return first.elapsed_time(last) / 1000 / rounds

def bandwidth():
    free = torch.cuda.mem_get_info()[0]
    size = min(1 << 30, free // 8)
    if size < 1 << 26:
        raise LeftOut("less than half a gigabyte of the GPU's memory is free")
    source, target = (torch.empty(size, dtype=torch.uint8, device=DEVICE) for _ in range(2))
    small = min(size, 1 << 28)
    pinned = torch.empty(small, dtype=torch.uint8).pin_memory()
    within = 2 * size / seconds_of(lambda: target.copy_(source), 10)
    there = small / seconds_of(lambda: target[:small].copy_(pinned, non_blocking=True), 10)
    back = small / seconds_of(lambda: pinned.copy_(source[:small], non_blocking=True), 10)
    return {"device_memory": within / 1e9, "host_to_device": there / 1e9, "device_to_host": back / 1e9}

def matmul_rate():
    dtype = torch.bfloat16 if capability() >= 80 else torch.float16
    size = 8192 if torch.cuda.mem_get_info()[0] > 1 << 30 else 2048
    a, b = (torch.randn(size, size, device=DEVICE, dtype=dtype) for _ in range(2))
    out = torch.empty(size, size, device=DEVICE, dtype=dtype)
    taken = seconds_of(lambda: torch.mm(a, b, out=out), 20)
    return {"matmul": 2 * size ** 3 / taken / 1e12, "matmul_type": str(dtype).replace("torch.", "")}

def allocator():
    torch.cuda.empty_cache()
    blocks = [torch.empty(3 << 20, dtype=torch.uint8, device=DEVICE) for _ in range(64)]
    del blocks[::2]
    stats = torch.cuda.memory_stats()
    reserved = stats.get("reserved_bytes.all.current", 0)
    told = {"fragmented": stats.get("inactive_split_bytes.all.current", 0) / reserved if reserved else 0.0, "expandable": None}
    del blocks
    torch.cuda.empty_cache()
    settings = getattr(torch._C, "_accelerator_setAllocatorSettings", None) or getattr(torch._C, "_cuda_cudaCachingAllocator_set_allocator_settings", None)
    if settings is None:
        return told
    try:
        settings("expandable_segments:True")
        whole = torch.ones(64 << 20, dtype=torch.uint8, device=DEVICE)
        told["expandable"] = int(whole[-1]) == 1
        del whole
        torch.cuda.empty_cache()
        settings("expandable_segments:False")
    except Exception as error:
        told.update(expandable=False, expandable_error="%s: %s" % (type(error).__name__, error))
    return told

def on_gpu():
    stage("bfloat16", bfloat16)
    stage("float8", float8)
    if DEEP:
        stage("max-autotune", autotune)
        stage("nvcc", cuda_source)
        stage("bandwidth", bandwidth)
        stage("matmul-rate", matmul_rate)
        stage("allocator", allocator)
"""
