"""The script that imports torch in a child of the target interpreter and asks what it sees. Python 3.8 and later.

Each step is announced before it is made, so that one that crashes or hangs is known by name. Last come the eager
stages of the smoke test, on the GPU where torch has one. One argument: ``cpu`` keeps them on the processor.
"""

from envdoctor_checks.kernel.smoke_script import EAGER

SCRIPT = (
    EAGER
    + r"""
import sys

def told(error):
    lines = traceback.format_exception(type(error), error, error.__traceback__)
    return {"exception": type(error).__name__, "message": str(error)[:4000], "traceback": "".join(lines)[-6000:]}

def ask(record, key, question):
    # One question that must not keep the others from being asked.
    try:
        record[key] = question()
    except Exception as error:
        record.setdefault("errors", {})[key] = told(error)

def maps():
    try:
        with open("/proc/self/maps") as file:
            lines = [line for line in file if "/" in line and ".so" in line]
    except OSError as error:
        answer("no-maps", error=str(error))
        return
    answer("maps", text="".join(lines)[:2000000])

def dotted(number):
    # cuDNN 8 and older: 8902 is 8.9.2; from 9 on: 91002 is 9.10.2.
    if number is None:
        return None
    if number >= 90000:
        return "%d.%d.%d" % (number // 10000, number // 100 % 100, number % 100)
    return "%d.%d.%d" % (number // 1000, number // 100 % 10, number % 100)

def nccl(torch):
    version = torch.cuda.nccl.version()
    if isinstance(version, int):
        return "%d.%d.%d" % (version // 1000, version // 100 % 10, version % 100)
    return ".".join(str(part) for part in version) if version else None

def arch_flags(torch):
    flags = getattr(torch._C, "_cuda_getArchFlags", None)
    told = flags() if flags is not None else None
    return told.split() if told else None

def devices(torch):
    found = []
    for index in range(torch.cuda.device_count()):
        answer("asking", what="get_device_properties(%d)" % index)
        properties = torch.cuda.get_device_properties(index)
        found.append({"index": index, "name": properties.name, "compute_capability": "%d.%d" % (properties.major, properties.minor)})
    return found

def cuda(torch):
    record = {}
    ask(record, "arch_list", lambda: arch_flags(torch))
    answer("asking", what="is_available")
    ask(record, "available", lambda: bool(torch.cuda.is_available()))
    ask(record, "device_count", lambda: torch.cuda.device_count())
    if not record.get("available"):
        answer("asking", what="init")
        try:
            torch.cuda.init()
        except Exception as error:
            record["reason"] = told(error)
    else:
        ask(record, "devices", lambda: devices(torch))
        answer("asking", what="init")
        ask(record, "init", lambda: torch.cuda.init())
    if torch.version.cuda:
        answer("asking", what="cudnn.version")
        ask(record, "cudnn", lambda: dotted(torch.backends.cudnn.version()))
        answer("asking", what="nccl.version")
        ask(record, "nccl", lambda: nccl(torch))
    answer("cuda", **record)
    return bool(record.get("available"))

def main():
    answer("importing")
    try:
        import torch
    except BaseException as error:
        answer("import", ok=False, **told(error))
        maps()
        return
    version = getattr(torch, "version", None)
    answer(
        "import", ok=True, path=getattr(torch, "__file__", None), torch=str(getattr(torch, "__version__", "")),
        torch_cuda=getattr(version, "cuda", None), hip=getattr(version, "hip", None),
    )
    if not hasattr(torch, "cuda"):
        answer("not-torch")
        return
    available = cuda(torch)
    maps()
    if hasattr(torch, "randint"):
        eager(torch, "cuda" if available and sys.argv[1:] != ["cpu"] else "cpu")

main()
done()
"""
)
