"""Memory: of idle mounts, of what was walked, and of the page cache."""

import contextlib
import os
import time

import rows_layers
from figures import Goal, Row
from harness import cached_pages, drop_caches, fill

DAEMONS = ("capasfs", "fuse-overlayfs")


def daemons(bench):
    """The processes that serve mounts of this run."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            with open(f"/proc/{pid}/cmdline", "rb") as words:
                if f"{bench.scratch}/mounts/".encode() in words.read():
                    yield pid


def held(bench):
    """Proportional set size of all daemons together, in bytes."""
    total = 0
    for pid in daemons(bench):
        with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as sizes:
            total += sum(int(line.split()[1]) for line in sizes if line.startswith("Pss:"))
    return total * 1024


def idle(bench, row, kind):
    with contextlib.ExitStack() as mounts:
        for _ in range(row.argument):
            mounts.enter_context(bench.mounted(kind, "deep-3"))
        return held(bench) / row.argument


def per_file(bench, row, kind):
    """After a walk, and after the kernel was made to forget it."""
    count, forgotten = row.argument
    with bench.mounted(kind, f"files-{count}") as (point, _):
        before = held(bench)
        bench.work("find-stat-first", point)
        if forgotten:
            drop_caches()
            settle(lambda: held(bench))
        return max(held(bench) - before, 0) / count


def settle(size):
    """Waits while something still shrinks."""
    last = size()
    for _ in range(50):
        time.sleep(0.2)
        now = size()
        if now >= last:
            return
        last = now


def one_file(bench):
    bench.stack("shared", lambda layer: fill(os.path.join(layer("only"), "file"), 2**26))


def second_mount(bench, _row, kind):
    """What a read through a second mount of the same layers adds to the cache."""
    with bench.mounted(kind, "shared") as (first, _), bench.mounted(kind, "shared") as (second, _):
        for point in (first, second):
            with open(f"{point}/file", "rb") as data:
                while data.read(2**20):
                    pass
        with open(f"{second}/file", "rb") as data:
            return float(cached_pages(data.fileno(), 0) * os.sysconf("SC_PAGESIZE"))


def rows(args):
    count = 20 if args.quick else 200
    files = 10_000 if args.quick else 100_000
    yield Row(
        "memory-idle",
        f"memory of an idle mount, of {count}",
        idle,
        (Goal(300 * 1024, of=None),),
        unit="B",
        prepare=rows_layers.deep(3),
        kinds=DAEMONS,
        argument=count,
    )
    for name, title, limit, forgotten in (
        ("memory-walked", "memory of a file walked", 150, False),
        ("memory-forgotten", "the same after FORGET", 15, True),
    ):
        yield Row(
            name,
            title,
            per_file,
            (Goal(limit, of=None),),
            unit="B",
            prepare=rows_layers.many(files),
            kinds=DAEMONS,
            argument=(files, forgotten),
        )
    yield Row(
        "page-cache",
        "page cache that a second mount adds for a file of 64 MiB",
        second_mount,
        (Goal(0, of=None),),
        unit="B",
        prepare=one_file,
        kinds=(*DAEMONS, "overlay"),
    )
