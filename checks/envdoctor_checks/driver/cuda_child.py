"""The child that loads libcuda as any program would and initialises it: standard library only, Python 3.8 and later."""

SCRIPT = r"""
import ctypes

def loaded_from():
    try:
        with open("/proc/self/maps", errors="replace") as maps:
            for line in maps:
                path = line.rstrip("\n").split(None, 5)[-1]
                if path.startswith("/") and path.rpartition("/")[2].startswith("libcuda.so"):
                    return path
    except OSError:
        return None
    return None

def load():
    answer("calling", call="dlopen libcuda.so.1")
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        answer("not-loaded", error=str(error))
        return None
    answer("loaded", library=loaded_from())
    return cuda

def called(cuda, name, *arguments):
    answer("calling", call=name)
    try:
        return getattr(cuda, name)(*arguments)
    except AttributeError:
        return None

def name_of(cuda, code):
    name = ctypes.c_char_p()
    told = called(cuda, "cuGetErrorName", code, ctypes.byref(name))
    if told == 0 and name.value:
        return name.value.decode("ascii", "replace")
    return "CUDA_ERROR_%d" % code if code else "CUDA_SUCCESS"

def main():
    cuda = load()
    if cuda is None:
        return
    number = ctypes.c_int()
    if called(cuda, "cuDriverGetVersion", ctypes.byref(number)) == 0:
        answer("version", value=number.value)
    code = called(cuda, "cuInit", 0)
    if code is None:
        answer("no-symbol", symbol="cuInit")
        return
    record = {"code": code, "name": name_of(cuda, code)}
    if code == 0 and called(cuda, "cuDeviceGetCount", ctypes.byref(number)) == 0:
        record["devices"] = number.value
    answer("init", **record)

main()
done()
"""
