"""Starting containers: capas beside podman and bare runc; what idle ones take,
and what of the page cache when all read the same file. The image is busybox and
that file; nothing has a network of its own."""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tarfile
import time

APPLETS = ("sh", "true", "sleep")
# Larger than what the driver keeps in the cache of each mount (128 KiB).
BIG = 8 << 20
# The goals: podman's time by ours, milliseconds over runc's, and how often the
# file may be in the page cache, whatever else the machine reads meanwhile.
PODMAN, OVER_RUNC, COPIES = 3, 40, 4


def run(command, **more):
    return subprocess.run(command, check=True, stdin=subprocess.DEVNULL, capture_output=True, text=True, **more)


def timed(command):
    start = time.perf_counter()
    run(command)
    return (time.perf_counter() - start) * 1000


def tree(path):
    """The image's only layer, unpacked."""
    for name in ("bin", "dev", "proc", "sys", "etc"):
        os.makedirs(os.path.join(path, name))
    run(["cp", "/bin/busybox", os.path.join(path, "bin/busybox")])
    for name in APPLETS:
        os.symlink("busybox", os.path.join(path, "bin", name))
    with open(os.path.join(path, "big"), "wb") as file:
        file.write(os.urandom(BIG))


def bundle(path):
    """What bare runc runs: the same command in the same tree."""
    tree(os.path.join(path, "rootfs"))
    run(["runc", "spec"], cwd=path)
    with open(os.path.join(path, "config.json"), encoding="utf-8") as file:
        config = json.load(file)
    config["process"]["terminal"] = False
    config["process"]["args"] = ["/bin/true"]
    with open(os.path.join(path, "config.json"), "w", encoding="utf-8") as file:
        json.dump(config, file)


def memory(pid):
    """Proportional and private kilobytes of a process."""
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
        text = file.read()
    field = lambda name: sum(int(n) for n in re.findall(rf"^{name}:\s+(\d+)", text, re.MULTILINE))
    return field("Pss"), field("Private_Clean") + field("Private_Dirty")


def processes(*words):
    """Those whose command line has one of the words, and all of its needed parts."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                line = file.read().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if any(all(part in line for part in word) for word in words):
            found.append(pid)
    return found


def cached():
    """Bytes of the page cache."""
    with open("/proc/meminfo", encoding="ascii") as file:
        return int(re.search(r"^Cached:\s+(\d+) kB", file.read(), re.MULTILINE)[1]) << 10


def forget(path):
    """Take a file out of the page cache."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def copies(name, store, inspect, ids):
    """How often a file that all containers `ids` read is in the page cache then."""
    for directory, _, files in os.walk(store):
        if "big" in files and not os.path.ismount(directory):
            forget(os.path.join(directory, "big"))
    before = cached()
    for pid in run([*inspect, *ids]).stdout.split():
        with open(f"/proc/{pid}/root/big", "rb") as file:
            assert sum(len(part) for part in iter(lambda: file.read(1 << 20), b"")) == BIG
    found = (cached() - before) / BIG
    print(f"{name}: a file of {BIG >> 20} MiB that {len(ids)} containers read is in the page cache {found:.1f} times")
    return found


def idle(name, start, words, count):
    """Kilobytes for each of `count` idle containers, of the processes that stay with it; their ids."""
    ids = [run(start).stdout.strip() for _ in range(count)]
    assert len(set(ids)) == count
    time.sleep(2)
    pids = processes(*words)
    figures = [memory(pid) for pid in pids]
    pss, private = (sum(column) / count for column in zip(*figures))
    print(f"{name}: {len(pids) / count:.0f} processes each, {pss:.0f} kB PSS, {private:.0f} kB private")
    return {"processes": len(pids) / count, "pss_kb": pss, "private_kb": private}, ids


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--containers", type=int, default=100)
    parser.add_argument("--scratch", required=True)
    parser.add_argument("--podman", required=True, help="the command that starts it, words by blanks")
    parser.add_argument("--json", help="write the figures here")
    parser.add_argument("--check", action="store_true", help="fail where a goal is missed")
    args = parser.parse_args()
    scratch, podman = args.scratch, args.podman.split()
    os.environ["CAPAS_ROOT"] = os.path.join(scratch, "capas")
    bare = os.path.join(scratch, "bundle")
    os.makedirs(bare)
    bundle(bare)
    archive = os.path.join(scratch, "layer.tar")
    with tarfile.open(archive, "w") as tar:
        tar.add(os.path.join(bare, "rootfs"), arcname=".")
    run(["capas", "import", archive, "bench:1"])
    run([*podman, "import", archive, "localhost/bench:1"])

    commands = {
        "runc": ["runc", "run", "--bundle", bare, "capas-bench"],
        "capas": ["capas", "run", "--rm", "bench:1", "/bin/true"],
        "podman": [*podman, "run", "--rm", "--network=none", "localhost/bench:1", "/bin/true"],
    }
    times = {name: [] for name in commands}
    for number in range(args.rounds + 1):
        for name, command in commands.items():
            took = timed(command)
            if number:
                times[name].append(took)
    medians = {name: statistics.median(all) for name, all in times.items()}
    over = statistics.median(c - r for c, r in zip(times["capas"], times["runc"]))
    ratio = statistics.median(p / c for p, c in zip(times["podman"], times["capas"]))
    for name, median in medians.items():
        print(f"{name}: {median:.1f} ms (of {args.rounds}: {min(times[name]):.1f} to {max(times[name]):.1f})")
    print(f"capas: {over:.1f} ms over runc; podman takes {ratio:.1f} times as long")
    figures = {"start_ms": medians, "over_runc_ms": over, "podman_by_capas": ratio}

    if args.containers:
        root = os.environ["CAPAS_ROOT"]
        start = ["capas", "run", "-d", "bench:1", "sleep", "100000"]
        words = [("monitor", root), ("lowerdir=", "../containers/"), ("lowerdir=", root)]
        figures["idle_capas"], ids = idle("capas, idle", start, words, args.containers)
        inspect = ["capas", "inspect", "--format", "{{.State.Pid}}"]
        figures["copies_capas"] = copies("capas", root, inspect, ids)
        run(["sh", "-c", "capas ps -q | xargs capas rm -f"])
        start = [*podman, "run", "-d", "--network=none", "localhost/bench:1", "sleep", "100000"]
        words = [("conmon", scratch), ("lowerdir=", os.path.join(scratch, "podman"))]
        figures["idle_podman"], ids = idle("podman, idle", start, words, args.containers)
        inspect = [*podman, "inspect", "--format", "{{.State.Pid}}"]
        figures["copies_podman"] = copies("podman", os.path.join(scratch, "podman"), inspect, ids)
        run(["sh", "-c", f"{' '.join(podman)} rm -f -a -t 0"])
    if args.json:
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump(figures, file, indent=1)
    missed = [
        text
        for bad, text in (
            (ratio < PODMAN, f"podman takes {ratio:.1f} times as long, not {PODMAN}"),
            (over > OVER_RUNC, f"{over:.1f} ms over runc, not {OVER_RUNC}"),
            (figures.get("copies_capas", 0) > COPIES, "the image's files are in the page cache more than once"),
        )
        if bad
    ]
    for text in missed:
        print(f"MISSED: {text}")
    return 1 if args.check and missed else 0


sys.exit(main())
