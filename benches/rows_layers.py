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
LAZY = ("lazy_copy_up=on",)


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
    more = LAZY if row.name.endswith("-lazy") else ()
    with bench.mounted(kind, f"sized-{row.argument}", more=more) as (point, _):
        return bench.work("append-big", point)[0]


def layers(depth):
    return f"{depth} layer{'s' * (depth > 1)}"


def rows(args):
    depths = [1, 10, 100] if args.quick else [1, 3, 10, 30, 100, 300, 500]
    # Each also with a catalog, which only capasfs has.
    for depth in depths:
        point = {"prepare": deep(depth), "argument": depth}
        goals = (Goal(3e-3, of=None),) if depth == depths[-1] else ()
        yield Row(f"mount-{depth}", f"mount of {layers(depth)}", mount, goals, curve=("mount-layers", depth), **point)
        own = {"kinds": ("capasfs",), "curve": ("mount-layers", depth, "with a catalog"), **point}
        yield Row(f"mount-{depth}-catalog", f"mount of {layers(depth)} with a catalog", mount, goals, **own)
    for depth in depths:
        point = {"prepare": deep(depth), "argument": depth}
        title = f"lookup at the bottom of {layers(depth)}"
        yield Row(f"lookup-{depth}", title, lookup, curve=("lookup-layers", depth), **point)
        own = {"kinds": ("capasfs",), "curve": ("lookup-layers", depth, "with a catalog"), **point}
        goals = (Goal(1.2, row="lookup-1"),) if depth == depths[-1] else ()
        yield Row(f"lookup-{depth}-catalog", f"{title} with a catalog", lookup, goals, **own)
    for count in [1000, 10_000] if args.quick else [1000, 10_000, 100_000, 1_000_000]:
        title = f"find + stat of {count:,} files, first, a file"
        point = {"prepare": many(count), "argument": count, "once": count == 1_000_000}
        yield Row(f"files-{count}", title, walk, curve=("files", count), **point)
    # The row append-big is the last point.
    sizes = [2**12, 2**16, 2**20, 2**24, 2**26, 2**28]
    for size in sizes[:4] if args.quick else sizes:
        label = f"{size >> 20} MiB" if size >= 2**20 else f"{size >> 10} KiB"
        title = f"first append to a lower file of {label}"
        point = {"prepare": sized(size), "argument": size}
        yield Row(f"copy-up-{size}", title, append, curve=("copy-up", size), **point)
        # Smaller ones are copied at once.
        if size > 2**23:
            own = {"kinds": ("capasfs",), "curve": ("copy-up", size, "with lazy_copy_up=on"), **point}
            yield Row(f"copy-up-{size}-lazy", f"{title} with lazy_copy_up=on", append, **own)
