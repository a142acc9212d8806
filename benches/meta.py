"""Metadata work (finding, opening, creating, changing owners, removing …) on
capasfs, kernel overlayfs, fuse-overlayfs 2.0 and the plain filesystem, over the
three layers of a Debian root filesystem. Started by scripts/bench-meta."""

import os
import subprocess
import sys

from harness import Bench, Figures, arguments, chosen, fill, say

# name: what it is given, and what is dropped before (2: names and inodes).
ROWS = {
    "mount": None,
    "lstat-warm": 0,
    "find-stat-warm": 0,
    "find-stat-2": 0,
    "find-stat-cold": 2,
    "negative-first": 0,
    "negative-again": 0,
    "open-read-close-warm": 0,
    "open-read-close-cold": 2,
    "exec": 0,
    "create-unlink": 0,
    "mkdir-rename-rmdir": 0,
    "untar": 0,
    "chmod-big": 0,
    "append-big": 0,
    "chown-tree": 0,
    "rm-tree": 0,
}


def layers(bench, archive, big):
    """The root filesystem in three layers, and these with a layer that has one big
    file: only the rows about it pay for its copy on the plain filesystem."""
    base = bench.lower("base")
    subprocess.run(["tar", "-C", base, "-xf", archive], check=True)
    middle = bench.lower("middle")
    subprocess.run(["mkdir", "-p", f"{middle}/usr/share", f"{middle}/etc"], check=True)
    subprocess.run(["cp", "-a", f"{base}/usr/share/doc", f"{middle}/usr/share/"], check=True)
    top = bench.lower("top")
    subprocess.run(["mkdir", "-p", f"{top}/etc", f"{top}/usr/bin"], check=True)
    with open(f"{top}/etc/motd", "w", encoding="utf-8") as motd:
        motd.write("three layers\n")
    stack = list(bench.lowers)
    fill(os.path.join(bench.lower("big"), "big"), big)
    return stack, list(bench.lowers)


def file_list(bench, most=3000):
    """Regular files below usr, as the cold row reads them."""
    base = bench.lowers[-1]
    out = subprocess.run(["find", "usr", "-type", "f", "-size", "+0"], cwd=base, capture_output=True, text=True, check=True)
    path = bench.path("files")
    with open(path, "w", encoding="utf-8") as names:
        names.write("\n".join(out.stdout.splitlines()[:most]) + "\n")
    return path


def main():
    parser = arguments(__doc__)
    parser.add_argument("--archive", required=True, help="a root filesystem as a tar")
    parser.add_argument("--program", required=True, help="the workloads, benches/meta.rs built")
    parser.add_argument("--big", type=int, help="MiB of the file changed by *-big (1024; 256 with --quick)")
    args = parser.parse_args()
    rows = chosen(list(ROWS), args.only)
    figures = Figures("microseconds an operation", bigger=False)
    with Bench(args) as bench:
        stack, with_big = layers(bench, args.archive, args.big or (256 if args.quick else 1024))
        given = {"open-read-close-cold": file_list(bench), "untar": args.archive}
        for turn in range(args.rounds):
            for number, row in enumerate(rows):
                bench.lowers = with_big if row.endswith("-big") else stack
                for kind in bench.rotated(turn + number):
                    point, took = bench.mount(kind)
                    os.sync()
                    if row == "mount":
                        if kind != "plain":
                            figures.add(row, kind, took * 1e6)
                    else:
                        if drop := ROWS[row]:
                            with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as caches:
                                caches.write(str(drop))
                        command = [args.program, row, point] + ([given[row]] if row in given else [])
                        out = subprocess.run(command, capture_output=True, text=True, check=False)
                        if out.returncode != 0:
                            sys.exit(f"{row} on {kind}: {out.stderr}")
                        nanoseconds, operations = map(int, out.stdout.split())
                        figures.add(row, kind, nanoseconds / operations / 1000)
                    bench.umount(kind)
            say(f"round {turn + 1} of {args.rounds} done")
        figures.finish(args, bench.kinds)


main()
