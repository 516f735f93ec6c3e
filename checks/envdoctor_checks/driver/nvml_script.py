"""The script that asks NVML in a child: pynvml is imported nowhere else.

Every call is announced before it is made, so that one which hangs or crashes is known by name. A question that this
driver or GPU does not support is answered with its error's name, not left out.
"""

SCRIPT = r"""
try:
    import pynvml
except ImportError as error:
    answer("no-pynvml", error=str(error))
    done()
    raise SystemExit

CODES = {getattr(pynvml, name): name for name in dir(pynvml) if name.startswith("NVML_ERROR_") or name == "NVML_SUCCESS"}

def plain(value):
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return getattr(value, "value", value)

def call(name, *arguments):
    answer("calling", call=name)
    return getattr(pynvml, name)(*arguments)

def code_of(error):
    return CODES.get(getattr(error, "value", None), "NVML_ERROR_%s" % getattr(error, "value", "?"))

def ask(record, key, name, *arguments):
    try:
        record[key] = plain(call(name, *arguments))
    except pynvml.NVMLError as error:
        record.setdefault("errors", {})[key] = code_of(error)
    except (UnicodeDecodeError, AttributeError, ValueError) as error:
        record.setdefault("errors", {})[key] = "%s: %s" % (type(error).__name__, error)

def device(index):
    record = {"index": index}
    try:
        handle = call("nvmlDeviceGetHandleByIndex", index)
    except pynvml.NVMLError as error:
        answer("device", index=index, error=code_of(error))
        return
    for key, name in DEVICE_QUESTIONS:
        ask(record, key, name, handle)
    ask_structs(record, handle)
    answer("device", **record)

DEVICE_QUESTIONS = (
    ("name", "nvmlDeviceGetName"),
    ("uuid", "nvmlDeviceGetUUID"),
    ("compute_mode", "nvmlDeviceGetComputeMode"),
    ("persistence_mode", "nvmlDeviceGetPersistenceMode"),
)

def ask_structs(record, handle):
    try:
        record["compute_capability"] = "%d.%d" % tuple(call("nvmlDeviceGetCudaComputeCapability", handle))
    except pynvml.NVMLError as error:
        record.setdefault("errors", {})["compute_capability"] = code_of(error)
    try:
        memory = call("nvmlDeviceGetMemoryInfo", handle)
        record["memory_total"], record["memory_used"] = memory.total >> 20, memory.used >> 20
    except pynvml.NVMLError as error:
        record.setdefault("errors", {})["memory"] = code_of(error)
    try:
        record["pci_address"] = plain(call("nvmlDeviceGetPciInfo", handle).busId)
    except (pynvml.NVMLError, UnicodeDecodeError) as error:
        record.setdefault("errors", {})["pci_address"] = code_of(error)

def main():
    try:
        call("nvmlInit")
    except pynvml.NVMLError as error:
        answer("init", code=getattr(error, "value", -1), name=code_of(error), message=str(error))
        return
    answer("init", code=0, name="NVML_SUCCESS", message="")
    system = {}
    ask(system, "release", "nvmlSystemGetDriverVersion")
    ask(system, "cuda", "nvmlSystemGetCudaDriverVersion_v2")
    ask(system, "count", "nvmlDeviceGetCount")
    answer("system", **system)
    for index in range(min(int(system.get("count") or 0), 64)):
        device(index)
    answer("all-devices")

main()
done()
"""

CUDA_SCRIPT = r"""
import ctypes

def loaded_from(library):
    try:
        with open("/proc/self/maps") as maps:
            for line in maps:
                path = line.split(None, 5)[-1].strip()
                if "/" + library in path:
                    return path
    except OSError:
        return None
    return None

def main():
    answer("calling", call="dlopen libcuda.so.1")
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        answer("not-loaded", error=str(error))
        return
    answer("loaded", library=loaded_from("libcuda.so"))
    version, count = ctypes.c_int(), ctypes.c_int()
    answer("calling", call="cuDriverGetVersion")
    told = cuda.cuDriverGetVersion(ctypes.byref(version))
    if told == 0:
        answer("version", value=version.value)
    answer("calling", call="cuInit")
    code = cuda.cuInit(0)
    record = {"code": code, "name": name_of(cuda, code)}
    if code == 0:
        answer("calling", call="cuDeviceGetCount")
        if cuda.cuDeviceGetCount(ctypes.byref(count)) == 0:
            record["devices"] = count.value
    answer("init", **record)

def name_of(cuda, code):
    name = ctypes.c_char_p()
    try:
        if cuda.cuGetErrorName(code, ctypes.byref(name)) == 0 and name.value:
            return name.value.decode("ascii", "replace")
    except AttributeError:
        pass
    return "CUDA_ERROR_%d" % code if code else "CUDA_SUCCESS"

main()
done()
"""
