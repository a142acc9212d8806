"""Work on the tree of a Debian root filesystem in three layers. capasfs reads
them as they are, but in the rows that say "with a catalog", and is asked before
files are opened, but in those that say otherwise."""

import os
import subprocess
import time

from figures import Goal, Row
from harness import Skip, drop_caches, in_user_namespace

# name: title, goals, caches dropped before, does it change the tree
ROWS = {
    "lstat-warm": ("warm lstat", 1.0, False, False),
    "find-stat-warm": ("warm find + stat", 0.8, False, False),
    "find-stat-2": ("the same by two processes", 1.0, False, False),
    "find-stat-cold": ("cold find + stat", 1.5, True, False),
    "find-stat-cold-catalog": ("the same with a catalog", 0.8, True, False),
    "negative-first": ("lookup of a name that does not exist, first", 1.0, False, False),
    "negative-again": ("the same, again", 1.0, False, False),
    "open-read-close-warm": ("open + read 4k + close of 3,000 files, warm", 2.5, False, False),
    "open-read-close-warm-zero": ("the same, opened without a message (open=zero)", 1.0, False, False),
    "open-read-close-cold": ("open + read 4k + close of 3,000 files, cold", 1.3, True, False),
    "open-read-close-cold-catalog": ("the same with a catalog", 1.0, True, False),
    "exec": ("exec of a small program", 1.08, False, False),
    "create-unlink": ("create + unlink of 5,000 files", 3.5, False, True),
    "mkdir-rename-rmdir": ("mkdir + rename + rmdir", 2.5, False, True),
    "untar": ("untar of a root filesystem into the mount", 1.3, False, True),
    "rm-tree": ("rm -rf of a lower /usr", 1.5, False, True),
}


def debian(bench):
    """The root filesystem in three layers, and a list of its files."""

    def make(layer):
        base = layer("base")
        command = ["tar", "-C", base, "-xf", bench.args.archive]
        # A namespace can make no devices, and that is all in /dev.
        subprocess.run(command + (["--exclude=./dev/*"] if in_user_namespace() else []), check=True)
        middle = layer("middle")
        os.makedirs(f"{middle}/usr/share")
        os.makedirs(f"{middle}/etc")
        subprocess.run(["cp", "-a", f"{base}/usr/share/doc", f"{middle}/usr/share/"], check=True)
        top = layer("top")
        os.makedirs(f"{top}/etc")
        os.makedirs(f"{top}/usr/bin")
        with open(f"{top}/etc/motd", "w", encoding="utf-8") as motd:
            motd.write("three layers\n")
        find = ["find", "usr", "-type", "f", "-size", "+0"]
        out = subprocess.run(find, cwd=base, capture_output=True, text=True, check=True)
        with open(bench.path("files"), "w", encoding="utf-8") as names:
            names.write("\n".join(out.stdout.splitlines()[:3000]) + "\n")

    bench.stack("debian", make)


def tree(bench, row, kind):
    cold, changes = row.argument
    work = row.name.removesuffix("-catalog").removesuffix("-zero")
    catalog, more = row.name.endswith("-catalog"), ["open=zero"] if row.name.endswith("-zero") else []
    given = {"open-read-close-cold": bench.path("files"), "untar": bench.args.archive}
    with bench.mounted(kind, "debian", changes, catalog=catalog, more=more) as (point, _):
        if cold:
            drop_caches()
        arguments = [point] + ([given[work]] if work in given else [])
        return bench.work(work, *arguments)[0]


def catalog_time(bench, _row, _kind):
    bench.catalogs.pop("debian", None)
    return bench.catalog("debian")[1]


def catalog_bytes(bench, row, _kind):
    file, _, names = bench.catalog("debian")
    return os.path.getsize(file) / (names if row.name == "catalog-bytes" else 1)


def mount(bench, _row, kind):
    with bench.mounted(kind, "debian", changes=False) as (_, took):
        return took or None


def repository(bench):
    """A git repository with what is below /usr/share and /etc of the layers."""
    debian(bench)
    source = bench.path("repository")
    if os.path.isdir(source):
        return
    base = bench.stacks["debian"][-1]
    os.makedirs(source)
    subprocess.run(["cp", "-a", f"{base}/usr/share", f"{base}/etc", f"{base}/usr/lib/systemd", source], check=False)
    git = ["git", "-C", source, "-c", "user.name=bench", "-c", "user.email=bench@localhost"]
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "all"]):
        subprocess.run(git + words, check=True)


def git(bench, _row, kind):
    with bench.mounted(kind, "debian") as (point, _):
        before = time.perf_counter()
        subprocess.run(["git", "clone", "-q", "--no-hardlinks", bench.path("repository"), f"{point}/clone"], check=True)
        subprocess.run(["git", "-C", f"{point}/clone", "status", "-s"], check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - before


def chown(bench, row, kind):
    if in_user_namespace() and kind == "overlay-no-metacopy":
        raise Skip("overlayfs has no metacopy in a user namespace")
    return tree(bench, row, kind)


def rows(_args):
    yield Row("mount", "mount of three layers", mount, prepare=debian)
    for name, (title, limit, cold, changes) in ROWS.items():
        yield Row(name, title, tree, (Goal(limit),), prepare=debian, argument=(cold, changes))
    own = {"prepare": debian, "kinds": ("capasfs",)}
    yield Row("catalog-time", "making a catalog of a root filesystem", catalog_time, **own)
    yield Row("catalog-size", "its size", catalog_bytes, unit="B", **own)
    yield Row("catalog-bytes", "of that a name in it", catalog_bytes, unit="B", **own)
    yield Row(
        "chown-tree",
        "chown -R of a lower /usr, a file",
        chown,
        (Goal(0.2, of="overlay-no-metacopy"), Goal(1.5)),
        prepare=debian,
        extra=("overlay-no-metacopy",),
        argument=(False, True),
    )
    yield Row("git", "git clone and status", git, (Goal(1.5),), prepare=repository)
