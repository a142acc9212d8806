"""Cost against the number of layers, the number of files, and file size."""

import os

from figures import Goal, Row
from harness import fill

# Plot: title, axis.
CURVES = {
    "mount-layers": ("mount", "layers"),
    "lookup-layers": ("first lookup of a name of the lowest layer", "layers"),
    "files": ("find + stat of all files, first time, a file", "files"),
    "copy-up": ("first append to a lower file", "bytes of the file"),
}
NAMES = 1000


def deep(count):
    """Layers that all have the directory `d`; the lowest has NAMES files in it."""

    def make(layer):
        for number in range(count):
            inside = os.path.join(layer(str(number)), "d")
            os.makedirs(inside)
            for name in range(NAMES if number == 0 else 1):
                with open(f"{inside}/f{number}-{name}", "w", encoding="ascii"):
                    pass

    return lambda bench: bench.stack(f"deep-{count}", make)


def mount(bench, row, kind):
    catalog = row.name.endswith("-catalog")
    with bench.mounted(kind, f"deep-{row.argument}", changes=False, catalog=catalog) as (_, took):
        return took or None


def lookup(bench, row, kind):
    catalog = row.name.endswith("-catalog")
    with bench.mounted(kind, f"deep-{row.argument}", changes=False, catalog=catalog) as (point, _):
        return bench.work("lookup", f"{point}/d", "f0-", str(NAMES))[0]


def many(count):
    """One layer with so many empty files, a thousand in a directory."""

    def make(layer):
        base = layer("only")
        for number in range(count):
            inside = f"{base}/{number // 100_000}/{number // 1000 % 100}"
            if number % 1000 == 0:
                os.makedirs(inside)
            os.close(os.open(f"{inside}/{number}", os.O_CREAT | os.O_WRONLY, 0o644))

    return lambda bench: bench.stack(f"files-{count}", make)


def walk(bench, row, kind):
    with bench.mounted(kind, f"files-{row.argument}", changes=False) as (point, _):
        return bench.work("find-stat-first", point)[0]


def sized(size):
    return lambda bench: bench.stack(f"sized-{size}", lambda layer: fill(os.path.join(layer("only"), "big"), size))


def append(bench, row, kind):
    with bench.mounted(kind, f"sized-{row.argument}") as (point, _):
        return bench.work("append-big", point)[0]


def rows(args):
    depths = [1, 10, 100] if args.quick else [1, 3, 10, 30, 100, 300, 500]
    for depth in depths:
        goals = (Goal(3e-3, of=None),) if depth == 500 else ()
        curve = ("mount-layers", depth)
        yield Row(f"mount-{depth}", f"mount of {depth} layer{'s' * (depth > 1)}", mount, goals, prepare=deep(depth), curve=curve, argument=depth)
    for depth in depths:
        yield Row(
            f"lookup-{depth}",
            f"lookup at the bottom of {depth} layer{'s' * (depth > 1)}",
            lookup,
            prepare=deep(depth),
            curve=("lookup-layers", depth),
            argument=depth,
        )
    most = {"prepare": deep(depths[-1]), "argument": depths[-1], "kinds": ("capasfs",)}
    goals = (Goal(3e-3, of=None),)
    yield Row(f"mount-{depths[-1]}-catalog", f"mount of {depths[-1]} layers with a catalog", mount, goals, **most)
    title = f"lookup at the bottom of {depths[-1]} layers with a catalog"
    yield Row(f"lookup-{depths[-1]}-catalog", title, lookup, (Goal(1.2, row="lookup-1"),), **most)
    for count in [1000, 10_000] if args.quick else [1000, 10_000, 100_000, 1_000_000]:
        title = f"find + stat of {count:,} files, first, a file"
        yield Row(f"files-{count}", title, walk, prepare=many(count), curve=("files", count), argument=count)
    # The row append-big is the last point.
    sizes = [2**12, 2**16, 2**20, 2**24, 2**26, 2**28]
    for size in sizes[:4] if args.quick else sizes:
        label = f"{size >> 20} MiB" if size >= 2**20 else f"{size >> 10} KiB"
        title = f"first append to a lower file of {label}"
        yield Row(f"copy-up-{size}", title, append, prepare=sized(size), curve=("copy-up", size), argument=size)
