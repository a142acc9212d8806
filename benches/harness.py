"""What the benches share: the filesystems under test on the same lower layers,
interleaved rounds in rotated order, medians, tables and JSON.

Needs root. A filesystem here is one of KINDS; `overlay` (the kernel's, with
redirect_dir, metacopy and index on) is what the ratios refer to.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

KINDS = ["capasfs", "overlay", "fuse-overlayfs", "plain"]
REFERENCE = "overlay"


def say(*words):
    print(*words, file=sys.stderr, flush=True)


def arguments(description):
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="small and short, for a look")
    parser.add_argument("--only", default="", help="rows whose name contains this (comma separated)")
    parser.add_argument("--kinds", default=",".join(KINDS), help="filesystems, comma separated")
    parser.add_argument("--capasfs", default="capasfs", help="the driver to run")
    parser.add_argument("--capasfs-options", default="", help="more mount options for it")
    parser.add_argument("--fo2", help="fuse-overlayfs 2.0 (found in PATH otherwise)")
    parser.add_argument("--dir", help="where the layers are made (a directory on the disk to measure)")
    parser.add_argument("--json", help="write the figures here")
    return parser


def chosen(rows, only):
    words = [word for word in only.split(",") if word]
    return [row for row in rows if not words or any(word in row for word in words)]


def fill(path, size):
    """`size` MiB of bytes that no layer can fold away."""
    with open(path, "wb") as out:
        for _ in range(size):
            out.write(os.urandom(2**20))
        os.fsync(out.fileno())


def fuse_overlayfs_2(path):
    """The program, if it is there and its version is 2 (Debian's may be 1.x)."""
    path = path or shutil.which("fuse-overlayfs")
    if path:
        out = subprocess.run([path, "--version"], capture_output=True, text=True, check=False)
        for line in (out.stdout + out.stderr).splitlines():
            if "fuse-overlayfs" in line and "2." in line:
                return path
    return None


class Bench:
    """A scratch directory with lower layers, and the filesystems over them."""

    def __init__(self, args):
        self.args = args
        self.kinds = [kind for kind in args.kinds.split(",") if kind]
        if unknown := set(self.kinds) - set(KINDS):
            sys.exit(f"unknown filesystem: {', '.join(unknown)}")
        self.fo2 = fuse_overlayfs_2(args.fo2)
        if "fuse-overlayfs" in self.kinds and not self.fo2:
            say("fuse-overlayfs 2 skipped: not in PATH (cargo install fuse-overlayfs, or --fo2 PATH)")
            self.kinds.remove("fuse-overlayfs")
        self.scratch = tempfile.mkdtemp(prefix="capas-bench.", dir=args.dir or "/var/tmp")
        os.chmod(self.scratch, 0o755)
        self.lowers = []
        self.mounted = {}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for kind in list(self.mounted):
            self.umount(kind)
        subprocess.run(["rm", "-rf", "--one-file-system", self.scratch], check=False)

    def path(self, *parts):
        return os.path.join(self.scratch, *parts)

    def lower(self, name):
        """A new lower layer, above those there are."""
        path = self.path("lower", name)
        os.makedirs(path)
        self.lowers.insert(0, path)
        return path

    def mount(self, kind):
        """Mounts with a fresh upper; gives the mountpoint and the seconds it took."""
        base = self.path(kind)
        subprocess.run(["rm", "-rf", base], check=True)
        for part in ("upper", "work", "mnt"):
            os.makedirs(os.path.join(base, part))
        point = os.path.join(base, "mnt")
        layers = f"lowerdir={':'.join(self.lowers)},upperdir={base}/upper,workdir={base}/work"
        if kind == "plain":
            # What a union shows, as plain files: a copy, not the lowers themselves.
            for layer in reversed(self.lowers):
                subprocess.run(["cp", "-a", "--reflink=auto", layer + "/.", point], check=True)
            self.mounted[kind] = None
            return point, 0.0
        command = {
            "capasfs": [self.args.capasfs, "-o", ",".join(filter(None, [layers, "allow_other", self.args.capasfs_options])), point],
            "overlay": ["mount", "-t", "overlay", "overlay", "-o", layers + ",redirect_dir=on,metacopy=on,index=on", point],
            "fuse-overlayfs": [self.fo2, "-o", layers + ",allow_other", point],
        }[kind]
        before = time.perf_counter()
        subprocess.run(command, check=True)
        took = time.perf_counter() - before
        self.mounted[kind] = point
        return point, took

    def umount(self, kind):
        point = self.mounted.pop(kind)
        if point and subprocess.run(["umount", point], check=False).returncode != 0:
            subprocess.run(["umount", "-l", point], check=False)

    def rotated(self, turn):
        turn %= len(self.kinds)
        return self.kinds[turn:] + self.kinds[:turn]


class Figures:
    """row -> kind -> values, one a round; `bigger` says which way is better."""

    def __init__(self, unit, bigger):
        self.unit, self.bigger, self.rows = unit, bigger, {}

    def add(self, row, kind, value):
        self.rows.setdefault(row, {}).setdefault(kind, []).append(value)

    def median(self, row, kind):
        values = self.rows[row].get(kind)
        return statistics.median(values) if values else None

    def ratio(self, row, kind):
        mine, theirs = self.median(row, kind), self.median(row, REFERENCE)
        return mine / theirs if mine is not None and theirs else None

    def table(self, kinds):
        way = "bigger is better" if self.bigger else "smaller is better"
        lines = [f"medians in {self.unit}, in brackets the ratio to kernel overlayfs; {way}", ""]
        lines.append("| work | " + " | ".join(kinds) + " |")
        lines.append("|---|" + "---|" * len(kinds))
        for row in self.rows:
            cells = []
            for kind in kinds:
                value, ratio = self.median(row, kind), self.ratio(row, kind)
                if value is None:
                    cells.append("–")
                elif ratio is None or kind == REFERENCE:
                    cells.append(f"{value:.4g}")
                else:
                    cells.append(f"{value:.4g} ({ratio:.2f})")
            lines.append(f"| {row} | " + " | ".join(cells) + " |")
        return "\n".join(lines)

    def as_json(self, args):
        cpu = next((l.split(":", 1)[1].strip() for l in open("/proc/cpuinfo") if l.startswith("model name")), "")
        return {
            "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "kernel": platform.release(),
            "cpu": cpu,
            "cpus": os.cpu_count(),
            "load": os.getloadavg()[0],
            "rounds": args.rounds,
            "quick": args.quick,
            "unit": self.unit,
            "bigger_is_better": self.bigger,
            "rows": {
                row: {
                    kind: {"values": values, "median": self.median(row, kind), "ratio": self.ratio(row, kind)}
                    for kind, values in kinds.items()
                }
                for row, kinds in self.rows.items()
            },
        }

    def finish(self, args, kinds):
        print(self.table(kinds))
        if args.json:
            with open(args.json, "w", encoding="utf-8") as out:
                json.dump(self.as_json(args), out, indent=1)
                out.write("\n")
