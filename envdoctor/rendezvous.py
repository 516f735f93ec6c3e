"""Do the ranks of a job meet, and do their collectives give the right sums? Run inside the job's own launcher.

    torchrun --nnodes=2 --nproc-per-node=8 --rdzv-endpoint=NODE0:29500 -m envdoctor.rendezvous

on every node, as the job itself is started. Each rank tells how far it came, rank 0 sums up; the exit code is 0 where
all went well, 1 where something did not, 2 where it was not started as it must be. It needs Python 3.8, torch and
the standard library: this file alone may be copied to where the job runs. `envdoctor check` runs the same file, one
child per rank, on one machine.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import importlib
import json
import os
import socket
import struct
import sys
import threading
import time
import traceback
from typing import Any, Callable, Iterator  # noqa: UP035 # as Python 3.8 has them

Tell = Callable[..., None]
STAGES = (
    "import",
    "shared-memory",
    "device",
    "store",
    "roll-call",
    "group",
    "connect",
    "all_reduce",
    "all_gather",
    "broadcast",
    "exchange",
    "barrier",
    "bandwidth",
    "destroy",
)
"""In this order; each is told before it is entered and when it is left."""
LAUNCHER = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
SHARED = 16 << 20
"""Bytes of shared memory that the ranks of a node try together: a connection of NCCL's takes about ten megabytes."""
ELEMENTS = 1 << 18
BANDWIDTH_BYTES = {"nccl": 256 << 20, "gloo": 16 << 20}
ROUNDS = 5
GRACE = 3.0
"""Seconds beyond a stage's time in which the library may tell by itself, with its own words, that it is up."""
LISTENING = "0A"
"""The state of a socket in /proc/net/tcp."""


class Stopped(Exception):
    """A stage failed, and was told so."""


class Rank:
    """One rank, from the import of torch to the end of its process group.

    `tell(what, **fields)` gets ``entering``, then the stage's own name, ``failed`` or ``late``; and ``wrong`` for
    a result that differs from what it must be.
    """

    def __init__(self, tell: Tell, options: argparse.Namespace) -> None:
        self.tell = tell
        self.options = options
        self.rank = int(os.environ["RANK"])
        self.world = int(os.environ["WORLD_SIZE"])
        self.local = int(os.environ.get("LOCAL_RANK") or 0)
        self.backend: str = options.backend
        self.store: Any = None
        self.well = True
        self.on_late: Callable[[], None] | None = None
        """Called before the process is ended because a stage is late."""

    def run(self) -> bool:
        """Every stage in turn. Whether all went well; a stage that does not end ends the process instead."""
        try:
            self._prepare()
            self._meet()
            self._collect()
        except Stopped:
            self.well = False
        return self.well

    @contextlib.contextmanager
    def _stage(self, name: str, seconds: float | None = None, **about: Any) -> Iterator[dict[str, Any]]:
        """One stage: nothing can interrupt a thread inside a library, so a timer ends the process when it is late."""
        limit = seconds or self.options.timeout
        self.tell("entering", what=name, place=STAGES.index(name), limit=limit, **about)
        began = time.monotonic()
        timer = threading.Timer(limit + GRACE, self._late, (name, limit))
        timer.daemon = True
        timer.start()
        found = dict(about)
        try:
            yield found
        except Exception as error:
            timer.cancel()
            took = time.monotonic() - began
            self.tell("failed", what=name, seconds=took, timed_out=took > 0.9 * limit, **_told(error))
            raise Stopped(name) from error
        finally:
            timer.cancel()
        self.tell(name, seconds=round(time.monotonic() - began, 6), **found)

    def _late(self, name: str, limit: float) -> None:
        frame = sys._current_frames().get(threading.main_thread().ident or 0)  # noqa: SLF001 - no other way to ask
        place = traceback.extract_stack(frame)[-1] if frame else None
        where = f"{place.filename}, line {place.lineno}, in {place.name}" if place else None
        self.tell("late", what=name, seconds=limit, where=where)
        if self.on_late is not None:
            self.on_late()
        _leave(1)

    def _prepare(self) -> None:
        with self._stage("import", 3 * self.options.meet) as found:
            self.torch: Any = importlib.import_module("torch")
            self.dist: Any = importlib.import_module("torch.distributed")
            if not self.dist.is_available():
                raise RuntimeError("this torch was built without torch.distributed")
            found["torch"] = str(self.torch.__version__)
        if self.backend == "auto":
            usable = self.torch.cuda.is_available() and self.dist.is_nccl_available()
            self.backend = "nccl" if usable else "gloo"
        with contextlib.suppress(Stopped), self._stage("shared-memory") as found:
            found["bytes"] = self._share()
        with self._stage("device", self.options.meet) as found:
            found.update(self._take_device())

    def _share(self) -> int:
        """What DataLoader workers and NCCL need of /dev/shm. A failure is told and keeps nothing else from being tried."""
        size = SHARED // int(os.environ.get("LOCAL_WORLD_SIZE") or self.world)
        try:
            self.torch.zeros(size // 4).share_memory_().fill_(1)
        except Exception:
            self.well = False
            raise
        return size

    def _take_device(self) -> dict[str, Any]:
        """The device of this rank, and of a GPU which others the driver says it can read directly."""
        if self.backend != "nccl":
            self.device: Any = self.torch.device("cpu")
            return {"device": "cpu", "backend": self.backend}
        cuda = self.torch.cuda
        cuda.set_device(self.local)
        self.device = self.torch.device("cuda", self.local)
        self.torch.ones(1, device=self.device).add_(1).item()
        others = [index for index in range(cuda.device_count()) if index != self.local]
        return {
            "device": f"cuda:{self.local}",
            "name": cuda.get_device_name(self.local),
            "peers": [index for index in others if cuda.can_device_access_peer(self.local, index)],
            "backend": self.backend,
        }

    def _meet(self) -> None:
        patience = datetime.timedelta(seconds=self.options.meet)
        with self._stage("store", self.options.meet):
            rendezvous = importlib.import_module("torch.distributed.rendezvous").rendezvous
            self.store = next(rendezvous("env://", timeout=patience))[0]
        with self._stage("roll-call", self.options.meet) as found:
            found["hosts"] = self._roll_call()
        with self._stage("group") as found:
            # NCCL's own watchdog would end the process without a word to us, so its time is up later.
            seconds = self.options.timeout * (4 if self.backend == "nccl" else 1)
            self.dist.init_process_group(
                self.backend,
                store=self.store,
                rank=self.rank,
                world_size=self.world,
                timeout=datetime.timedelta(seconds=seconds),
            )
            found["addresses"] = listening() if self.backend == "gloo" else []

    def _roll_call(self) -> list[str]:
        """The host names of all ranks. Raises with the ranks that did not come."""
        self.store.set(f"envdoctor/here/{self.rank}", socket.gethostname())
        end = time.monotonic() + self.options.meet
        missing = []
        for rank in range(self.world):
            left = datetime.timedelta(seconds=max(end - time.monotonic(), 0.1))
            try:
                self.store.wait([f"envdoctor/here/{rank}"], left)
            except Exception:
                missing.append(rank)
        if missing:
            said = ", ".join(map(str, missing))
            raise TimeoutError(f"no word from rank {said} within {self.options.meet:g} s")
        return [self.store.get(f"envdoctor/here/{rank}").decode() for rank in range(self.world)]

    def _collect(self) -> None:
        dist, world = self.dist, self.world
        with self._stage("connect", 2 * self.options.timeout):  # the first collective connects the ranks
            first = self._ones()[:1]
            dist.all_reduce(first)
            self._check("connect", first, world)
        with self._stage("all_reduce"):
            mine = self._pattern() * (self.rank + 1)
            dist.all_reduce(mine)
            self._check("all_reduce", mine, self._pattern() * (world * (world + 1) // 2))
        with self._stage("all_gather"):
            mine = self._pattern() + self.rank
            parts = [self.torch.zeros_like(mine) for _ in range(world)]
            dist.all_gather(parts, mine)
            for rank, part in enumerate(parts):
                self._check("all_gather", part, self._pattern() + rank)
        with self._stage("broadcast"):
            mine = self._pattern() + self.rank
            dist.broadcast(mine, world - 1)
            self._check("broadcast", mine, self._pattern() + (world - 1))
        for peer in partners(self.rank, world):
            with self._stage("exchange", peer=peer) as found:
                found.update(self._exchange(peer))
        with self._stage("barrier"):
            dist.barrier(**({"device_ids": [self.local]} if self.backend == "nccl" else {}))
            self._settle()
        if self.options.bandwidth and world > 1:
            with self._stage("bandwidth", 4 * self.options.timeout) as found:
                found.update(self._bandwidth())
        with self._stage("destroy"):
            self._part()

    def _ones(self) -> Any:
        return self.torch.ones(ELEMENTS, device=self.device)

    def _pattern(self) -> Any:
        """1 to 7 over and over: small whole numbers, whose sums are exact."""
        return self.torch.arange(ELEMENTS, device=self.device).remainder(7).add(1).to(self.torch.float32)

    def _settle(self) -> None:
        """A GPU works on while Python goes ahead: wait for it, so that its stage is the one that hangs."""
        if self.backend == "nccl":
            self.torch.cuda.synchronize()

    def _check(self, what: str, got: Any, expected: Any, **about: Any) -> int:
        self._settle()
        different = got != expected
        count = int(different.sum())
        if count:
            self.well = False
            value = float(got[different][0])
            self.tell("wrong", what=what, elements=count, of=got.numel(), got=value, **about)
        return count

    def _exchange(self, peer: int) -> dict[str, Any]:
        """Both ways at once between this rank and one other."""
        dist = self.dist
        mine, theirs = self._pattern() + self.rank, self.torch.zeros_like(self._pattern())
        ways = [dist.P2POp(dist.isend, mine, peer), dist.P2POp(dist.irecv, theirs, peer)]
        for work in dist.batch_isend_irecv(ways):
            work.wait()
        return {"wrong": self._check("exchange", theirs, self._pattern() + peer, peer=peer)}

    def _bandwidth(self) -> dict[str, Any]:
        """The bus bandwidth of all_reduce, as nccl-tests define it, so that it compares with a link's rate."""
        size = BANDWIDTH_BYTES[self.backend]
        data = self.torch.ones(size // 4, device=self.device)
        for _ in range(2):
            self.dist.all_reduce(data)
        self._settle()
        began = time.monotonic()
        for _ in range(ROUNDS):
            self.dist.all_reduce(data)
        self._settle()
        each = (time.monotonic() - began) / ROUNDS
        bus = size / each * 2 * (self.world - 1) / self.world
        return {"bytes": size, "each": each, "bus": bus}

    def _part(self) -> None:
        """Rank 0 holds the store: it leaves last, or the others complain about a closed connection."""
        if self.rank == 0:
            for rank in range(1, self.world):
                with contextlib.suppress(Exception):  # one that died is told by others
                    left = datetime.timedelta(seconds=min(self.options.timeout, 5))
                    self.store.wait([f"envdoctor/leaving/{rank}"], left)
            self.dist.destroy_process_group()
            return
        self.dist.destroy_process_group()
        self.store.set(f"envdoctor/leaving/{self.rank}", "1")


def partners(rank: int, world: int) -> list[int]:
    """Whom this rank exchanges with, in the order in which all ranks can do so in pairs at once (a round robin)."""
    even = world + world % 2
    found = []
    for turn in range(even - 1):
        if rank == even - 1:
            other = turn * (even // 2) % (even - 1)
        else:
            other = (turn - rank) % (even - 1)
            other = even - 1 if other == rank else other
        if other < world:
            found.append(other)
    return found


def listening() -> list[str]:
    """The addresses on which this process listens, the store's aside (it listens on all): those that Gloo gives to others."""
    own: set[str] = set()
    with contextlib.suppress(OSError):
        for name in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):
                own.add(os.readlink("/proc/self/fd/" + name))
    found: list[str] = []
    for table in ("/proc/self/net/tcp", "/proc/self/net/tcp6"):
        with contextlib.suppress(OSError), open(table, encoding="ascii") as lines:
            rows = [row for row in map(str.split, lines) if len(row) > 9 and row[3] == LISTENING]
            found += [_address(row[1].partition(":")[0]) for row in rows if f"socket:[{row[9]}]" in own]
    return [each for each in dict.fromkeys(found) if each not in ("0.0.0.0", "::")]  # noqa: S104 - not bound to here


def _address(digits: str) -> str:
    """An address of /proc/net/tcp: words of 32 bits in the machine's byte order."""
    words = [int(digits[place : place + 8], 16) for place in range(0, len(digits), 8)]
    packed = struct.pack(f"={len(words)}I", *words)
    return socket.inet_ntop(socket.AF_INET if len(words) == 1 else socket.AF_INET6, packed)


def _told(error: Exception) -> dict[str, str]:
    lines = traceback.format_exception(type(error), error, error.__traceback__)
    return {
        "exception": type(error).__name__,
        "message": str(error)[:2000],
        "traceback": "".join(lines)[-6000:],
    }


def _leave(code: int) -> None:
    """Without destructors: those of a process group that is broken wait for the other ranks."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


class Journal:
    """How a rank of a launcher's job tells its stages: to the store for rank 0, and in a line of its own at the end."""

    def __init__(self) -> None:
        self.times: list[str] = []
        self.trouble: list[str] = []
        self.device = ""
        self.addresses: list[str] = []
        self.subject: Rank | None = None

    def tell(self, told: str, /, **fields: Any) -> None:
        """What `Rank` asks for."""
        name = fields.get("what", told)
        if told == "entering":
            self._publish("at", name)
        elif told in ("failed", "late", "wrong"):
            self.trouble.append(_in_words(told, fields))
            if "traceback" in fields:
                print(fields["traceback"], file=sys.stderr, flush=True)
        else:
            self.times.append("{} {:.2f} s".format(name, fields["seconds"]))
            self.device = fields.get("device", self.device)
            self.addresses = fields.get("addresses") or self.addresses
            if told == "bandwidth":
                self.times[-1] += " (bus %.2f GB/s)" % (fields["bus"] / 1e9)

    def _publish(self, kind: str, text: str) -> None:
        if self.subject is not None and self.subject.store is not None:
            with contextlib.suppress(Exception):  # a store that is gone is told by the stage that needs it
                self.subject.store.set(f"envdoctor/{kind}/{self.subject.rank}", text)

    def close(self, rank: Rank) -> None:
        """Print this rank's line and hand it to rank 0."""
        where = "{}{}".format(socket.gethostname(), ", " + self.device if self.device else "")
        if self.addresses:
            where += ", listens on " + " ".join(self.addresses)
        said = "; ".join(self.trouble) if self.trouble else "all well"
        line = f"rank {rank.rank} ({where}): {said}"
        print("{} [{}]".format(line, ", ".join(self.times)), flush=True)
        self._publish("end", json.dumps({"well": rank.well and not self.trouble, "line": line}))


def _in_words(told: str, fields: dict[str, Any]) -> str:
    stage = fields["what"]
    if told == "late":
        return "{} did not end within {:g} s (at {})".format(stage, fields["seconds"], fields.get("where"))
    if told == "wrong":
        return "{} gave wrong values: {} of {} elements".format(stage, fields["elements"], fields["of"])
    lines = fields["message"].strip().splitlines() or [""]
    return "{} failed: {}: {}".format(stage, fields["exception"], lines[0][:300])


def _sum_up(rank: Rank, seconds: float) -> bool:
    """Rank 0: wait for the others' lines and print what became of all. Whether all went well."""
    end = time.monotonic() + seconds
    lines, well = [], True
    for other in range(rank.world):
        said = _fetch(rank.store, f"envdoctor/end/{other}", end)
        if said is None:
            well = False
            stage = _fetch(rank.store, f"envdoctor/at/{other}", 0) or "the start"
            host = _fetch(rank.store, f"envdoctor/here/{other}", 0) or "host not known"
            lines.append(f"rank {other} ({host}): no word from it since {stage}")
        else:
            told = json.loads(said)
            well = well and told["well"]
            lines.append(told["line"])
    verdict = f"all {rank.world} ranks are well" if well else "NOT WELL"
    print("\n".join(["", f"envdoctor.rendezvous over {rank.backend}: {verdict}", *lines]), flush=True)
    rank.store.set("envdoctor/over", "1")
    return well


def _fetch(store: Any, key: str, end: float) -> str | None:
    """A value of the store, or None when it is not there by then."""
    left = datetime.timedelta(seconds=max(end - time.monotonic(), 0.2))
    try:
        store.wait([key], left)
        return str(store.get(key).decode())
    except Exception:
        return None


def _finish(rank: Rank, journal: Journal) -> int:
    """The exit code. A launcher ends all ranks when one of them leaves with an error: so the summary comes first."""
    journal.close(rank)
    if rank.store is None:
        return 0 if rank.well else 1
    try:
        if rank.rank == 0:
            well = _sum_up(rank, rank.options.timeout + 2 * GRACE)
            time.sleep(
                0.5
            )  # the others are about to fetch the last word, and this process may hold the store
            return 0 if well else 1
        _fetch(rank.store, "envdoctor/over", time.monotonic() + rank.options.timeout + 4 * GRACE)
    except Exception as error:
        print(f"the summary was not told: {error}", file=sys.stderr)
    return 0 if rank.well else 1


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="python -m envdoctor.rendezvous",
        description="Tries the rendezvous and the collectives of a job, inside the job's own launcher.",
        epilog="Example: torchrun --nnodes=2 --nproc-per-node=8 --rdzv-endpoint=NODE0:29500 -m envdoctor.rendezvous",
    )
    made.add_argument(
        "--backend",
        choices=("auto", "nccl", "gloo"),
        default="auto",
        help="auto: NCCL where torch has GPUs, else Gloo",
    )
    made.add_argument(
        "--timeout",
        type=float,
        default=30.0,
        metavar="S",
        help="seconds for each stage (30); connecting gets twice that",
    )
    made.add_argument(
        "--meet",
        type=float,
        default=60.0,
        metavar="S",
        help="seconds for all ranks to meet (60); importing torch gets three times that",
    )
    made.add_argument("--bandwidth", action="store_true", help="also measure the bus bandwidth of all_reduce")
    return made


def answer_as_a_child(answer: Tell, done: Callable[[], None]) -> None:
    """What `envdoctor check` calls in a child: stages go out as JSON."""
    rank = Rank(answer, parser().parse_args())
    if rank.run():
        done()
        return
    done()
    _leave(1)


def main() -> int:
    """One rank of the user's own job. Returns the exit code."""
    options = parser().parse_args()
    missing = [name for name in LAUNCHER if not os.environ.get(name)]
    if missing:
        print(
            "{}: not set. This is one rank of a job: start it with the launcher.\n".format(
                ", ".join(missing)
            ),
            file=sys.stderr,
        )
        print(parser().epilog, file=sys.stderr)
        return 2
    if os.path.exists(os.path.join(sys.path[0], "rendezvous.py")):
        del sys.path[
            0
        ]  # started as a file: what lies beside it must not be taken for torch's or Python's modules
    os.environ.setdefault("NCCL_DEBUG", "WARN")
    journal = Journal()
    rank = journal.subject = Rank(journal.tell, options)

    def late() -> None:
        rank.well = False
        # What hangs may hold the store's lock: the last words have a time of their own.
        last = threading.Thread(target=_finish, args=(rank, journal), daemon=True)
        last.start()
        last.join(options.timeout + 6 * GRACE)

    rank.on_late = late
    rank.run()
    code = _finish(rank, journal)
    if code:
        _leave(code)
    return code


if __name__ == "__main__" and "answer" not in globals():  # a child of `envdoctor check` calls it by itself
    sys.exit(main())
