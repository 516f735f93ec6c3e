"""Time of reading ELF files' dynamic facts against the time of merely making the same reads.

    python tests/bench/bench_elf.py DIR

Every ELF file below DIR is read warm; of each file the fastest of many rounds counts on both sides, so that
other work on the machine does not. Both sides open, stat and close each file, so the ratio is what the
parsing costs on top of the system calls.
"""

import os
import sys
import time
from collections.abc import Callable

from envdoctor.probing.elf import Elf, read_elf, read_elf_file

ROUNDS = 60
Reads = list[tuple[int, int]]


def main(directory: str) -> None:
    reads = {path: reads_of(path) for path in elf_files(directory)}
    if not reads:
        sys.exit(f"no dynamic ELF file below {directory}")
    reading = parsing = 0.0
    for path, wanted in reads.items():
        rounds = [(seconds(merely_read, path, wanted), seconds(read_elf_file, path)) for _ in range(ROUNDS)]
        fastest = [min(times) for times in zip(*rounds, strict=True)]
        reading, parsing = reading + fastest[0], parsing + fastest[1]
    calls = sum(map(len, reads.values()))
    size = sum(length for wanted in reads.values() for _, length in wanted)
    print(f"files {len(reads)}, reads {calls}, bytes {size}")
    print(f"reading {reading * 1e3:.3f} ms, parsing {parsing * 1e3:.3f} ms, ratio {parsing / reading:.2f}")


def elf_files(directory: str) -> list[str]:
    found = []
    for folder, _, names in os.walk(directory):
        for name in names:
            path = os.path.join(folder, name)
            if os.path.isfile(path) and not os.path.islink(path) and isinstance(read_elf_file(path), Elf):
                found.append(path)
    return sorted(found)


def reads_of(path: str) -> Reads:
    """The (offset, length) of every read that parsing this file makes."""
    wanted: Reads = []
    with open(path, "rb") as file:

        def read_at(offset: int, length: int) -> bytes:
            wanted.append((offset, length))
            return os.pread(file.fileno(), length, offset)

        read_elf(read_at, os.fstat(file.fileno()).st_size)
    return wanted


def merely_read(path: str, wanted: Reads) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        os.fstat(fd)
        for offset, length in wanted:
            os.pread(fd, length, offset)
    finally:
        os.close(fd)


def seconds(work: Callable[..., object], *given: object) -> float:
    start = time.perf_counter()
    work(*given)
    return time.perf_counter() - start


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
