"""The filesystems under test over the same lower layers, and what the machine
allows. `overlay` (the kernel's, with redirect_dir, metacopy and index on) is
what ratios refer to."""

import contextlib
import ctypes
import itertools
import os
import shutil
import subprocess
import sys
import tempfile
import time

# What is shown for each row; a row may ask for more of EXTRA.
KINDS = ["capasfs", "overlay", "fuse-overlayfs", "plain"]
EXTRA = {"overlay-no-metacopy": "kernel overlayfs with metacopy=off"}
TITLES = {
    "capasfs": "capasfs",
    "overlay": "kernel overlayfs",
    "fuse-overlayfs": "fuse-overlayfs 2.0",
    "plain": "no union",
}
REFERENCE = "overlay"


class Skip(Exception):
    """A row that cannot be had here, and why."""


def say(*words):
    print(*words, file=sys.stderr, flush=True)


def in_user_namespace():
    with open("/proc/self/uid_map", encoding="ascii") as ids:
        return ids.read().split() != ["0", "0", "4294967295"]


def drop_caches():
    """Drops what is known of names and inodes."""
    os.sync()
    try:
        with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as caches:
            caches.write("2")
    except OSError as error:
        raise Skip(f"caches can be dropped by the machine's root only ({error.strerror})") from error


def fill(path, size):
    """`size` bytes, none of them a hole."""
    block = os.urandom(min(size, 2**20))
    with open(path, "wb") as out:
        for start in range(0, size, len(block)):
            out.write(block[: size - start])
        os.fsync(out.fileno())


def remove(path):
    """With all that is in it, but for what is mounted there."""
    subprocess.run(["rm", "-rf", "--one-file-system", path], check=False)


def cached_pages(descriptor, length):
    """How many pages of the page cache an open file has of its own."""

    class Range(ctypes.Structure):
        _fields_ = [("offset", ctypes.c_uint64), ("length", ctypes.c_uint64)]

    class State(ctypes.Structure):
        _fields_ = [(name, ctypes.c_uint64) for name in ("cache", "dirty", "writeback", "evicted", "recent")]

    state = State()
    what = Range(0, length)
    cachestat = 451
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(cachestat, descriptor, ctypes.byref(what), ctypes.byref(state), 0) != 0:
        raise Skip(f"no cachestat(2): {os.strerror(ctypes.get_errno())}")
    return state.cache


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
            say("fuse-overlayfs 2.0 is skipped: not in PATH (cargo install --locked fuse-overlayfs, or --fo2 PATH)")
            self.kinds.remove("fuse-overlayfs")
        self.scratch = tempfile.mkdtemp(prefix="capas-bench.", dir=args.dir or "/var/tmp")
        os.chmod(self.scratch, 0o755)
        # ext4 gives an inode that was deleted in the last minutes to nobody, and
        # passes each of them when it looks for a free one: who works where another
        # has just removed its files is slower, up to twenty times. So each mount gets a
        # part of the disk of its own, as directories at the top do, which ext4 chooses
        # by the name. Other filesystems know no such mark.
        os.mkdir(self.path("mounts"))
        subprocess.run(["chattr", "+T", self.path("mounts")], check=False, stderr=subprocess.DEVNULL)
        self.places = itertools.count()
        self.stacks = {}
        self.copies = {}
        self.catalogs = {}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        remove(self.scratch)

    def path(self, *parts):
        return os.path.join(self.scratch, *parts)

    def stack(self, name, make):
        """Lower layers, topmost first: `make` is given a function that makes
        the next one above those there are, and is called once."""
        if name not in self.stacks:
            layers = []

            def layer(title):
                path = self.path("lower", name, title)
                os.makedirs(path)
                layers.insert(0, path)
                return path

            say(f"making lower layers: {name}")
            make(layer)
            os.sync()
            self.stacks[name] = layers
        return self.stacks[name]

    def drop_stack(self, name):
        """Large ones go when they were used."""
        self.catalogs.pop(name, None)
        if self.stacks.pop(name, None):
            subprocess.run(["rm", "-rf", self.path("lower", name)], check=True)
        if copy := self.copies.pop(name, None):
            subprocess.run(["rm", "-rf", copy], check=True)

    def place(self):
        """Where a mount or copy goes that is changed: never where one was before."""
        run = os.path.basename(self.scratch)
        return self.path("mounts", f"{run}.{next(self.places)}")

    def catalog(self, name):
        """The catalog of a stack, with the seconds that it took and its names."""
        if name not in self.catalogs:
            os.makedirs(self.path("catalogs"), exist_ok=True)
            file = self.path("catalogs", name)
            each, names = self.work("make-catalog", file, *self.stacks[name])
            self.catalogs[name] = (file, each * names, names)
        return self.catalogs[name]

    def options(self, kind):
        """Options besides the layers."""
        if kind == "capasfs":
            return [self.args.capasfs_options] if self.args.capasfs_options else []
        if kind.startswith("overlay"):
            # In a user namespace the kernel has neither of the first two.
            if in_user_namespace():
                return ["userxattr"]
            metacopy = "off" if kind == "overlay-no-metacopy" else "on"
            return ["redirect_dir=on", f"metacopy={metacopy}", "index=on"]
        return []

    def start(self, kind, lowers, base, more=()):
        """Mounts on BASE/mnt with a fresh upper; gives the seconds it took."""
        for part in ("upper", "work", "mnt"):
            os.makedirs(os.path.join(base, part))
        # Names relative to the layers' directory: 500 have to fit in a page.
        root = os.path.dirname(lowers[0])
        below = ":".join(os.path.relpath(lower, root) for lower in lowers)
        words = [f"lowerdir={below},upperdir={base}/upper,workdir={base}/work", *self.options(kind), *more]
        if kind in ("capasfs", "fuse-overlayfs") and not in_user_namespace():
            words.append("allow_other")
        program = {"capasfs": [self.args.capasfs], "fuse-overlayfs": [self.fo2]}
        command = program.get(kind, ["mount", "-t", "overlay", "overlay"])
        before = time.perf_counter()
        subprocess.run([*command, "-o", ",".join(words), f"{base}/mnt"], check=True, cwd=root)
        return time.perf_counter() - before

    @contextlib.contextmanager
    def mounted(self, kind, name, changes=True, catalog=False, more=()):
        """A mount over a stack with a fresh upper, gone at the end: gives its
        directory and the seconds that the mount took. `plain` is a copy of what
        a union shows, kept where nothing `changes` it. capasfs may be given a
        `catalog`, and `more` options."""
        lowers = self.stacks[name]
        if kind == "plain":
            point = self.plain(name, lowers, changes)
            try:
                yield point, 0.0
            finally:
                if changes:
                    remove(point)
            return
        more = list(more) if kind == "capasfs" else []
        more += [f"catalog={self.catalog(name)[0]}"] if catalog and kind == "capasfs" else []
        base = self.place()
        took = self.start(kind, lowers, base, more)
        try:
            yield f"{base}/mnt", took
        finally:
            if subprocess.run(["umount", f"{base}/mnt"], check=False).returncode != 0:
                subprocess.run(["umount", "-l", f"{base}/mnt"], check=False)
            remove(base)

    def plain(self, name, lowers, changes):
        if not changes and name in self.copies:
            return self.copies[name]
        if not changes and len(lowers) == 1:
            return lowers[0]
        point = self.place() if changes else self.path("plain", name)
        os.makedirs(point)
        for layer in reversed(lowers):
            subprocess.run(["cp", "-a", "--reflink=auto", layer + "/.", point], check=True)
        if not changes:
            self.copies[name] = point
        return point

    def work(self, row, *arguments):
        """Seconds an operation of a workload of benches/work.rs."""
        out = subprocess.run(
            [self.args.program, row, *arguments], capture_output=True, text=True, check=False
        )
        if out.returncode != 0:
            sys.exit(f"{row} in {arguments[0]}: {out.stderr}")
        nanoseconds, operations = map(int, out.stdout.split())
        return nanoseconds / operations / 1e9, operations
