"""Looking at a store of many images: `images`, `inspect` and `tag` of capas
beside podman's, both with the same images. One tiny layer, as many
configurations and names as images; interleaved rounds, medians. podman needs
minutes to list a thousand images, so it may have fewer rounds.
"""

import argparse
import hashlib
import io
import json
import os
import statistics
import subprocess
import sys
import tarfile
import time


def archive(path, count):
    """A docker archive of `count` images named bench/app:N."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("file"))
    layer = layer.getvalue()
    diff = "sha256:" + hashlib.sha256(layer).hexdigest()
    entries = []
    with tarfile.open(path, "w") as out:

        def add(name, data):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            out.addfile(member, io.BytesIO(data))

        add("layer.tar", layer)
        for number in range(count):
            config = {
                "created": f"2024-05-01T{number // 3600:02}:{number // 60 % 60:02}:{number % 60:02}Z",
                "architecture": "amd64",
                "os": "linux",
                "config": {"Cmd": ["/file"], "Labels": {"number": str(number)}},
                "rootfs": {"type": "layers", "diff_ids": [diff]},
                "history": [{"created": "2024-05-01T00:00:00Z", "created_by": "bench"}],
            }
            data = json.dumps(config).encode()
            name = hashlib.sha256(data).hexdigest() + ".json"
            add(name, data)
            tags = [f"localhost/bench/app:{number}"]
            entries.append({"Config": name, "RepoTags": tags, "Layers": ["layer.tar"]})
        add("manifest.json", json.dumps(entries).encode())


def run(command, quiet=True):
    out = subprocess.DEVNULL if quiet else None
    subprocess.run(command, check=True, stdout=out)


def timed(command):
    start = time.perf_counter()
    run(command)
    return (time.perf_counter() - start) * 1000


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--podman-rounds", type=int, default=1)
    parser.add_argument("--scratch", required=True)
    parser.add_argument("--podman", required=True, help="the command that starts it, words by blanks")
    parser.add_argument("--check", type=float, metavar="MS", help="fail where a command of capas takes longer")
    parser.add_argument("--json", help="write the figures here")
    args = parser.parse_args()
    tar = os.path.join(args.scratch, "images.tar")
    archive(tar, args.images)
    programs = {
        "capas": ["capas", "--root", os.path.join(args.scratch, "store")],
        "podman": args.podman.split(),
    }
    if not args.podman_rounds:
        del programs["podman"]
    for name, program in programs.items():
        start = time.perf_counter()
        run([*program, "load", "-q", "-i", tar])
        print(f"{name}: {args.images} images loaded in {time.perf_counter() - start:.1f} s", file=sys.stderr)
    some = f"localhost/bench/app:{args.images // 2}"
    rows = {
        "inspect": ["inspect", some],
        "tag": ["tag", some, "localhost/bench/other:1"],
        "images": ["images"],
        "images --filter label": ["images", "--filter", "label=number=7"],
    }
    times = {row: {name: [] for name in programs} for row in rows}
    rounds = {"capas": args.rounds, "podman": args.podman_rounds}
    if args.check is not None and args.rounds < 1:
        parser.error("--check needs rounds of capas")
    for number in range(max(rounds.values())):
        for row, words in rows.items():
            order = sorted(programs, reverse=bool(number % 2))
            for name in (name for name in order if number < rounds[name]):
                times[row][name].append(timed([*programs[name], *words]))
                if name == "podman":
                    print(f"podman {row}: {times[row][name][-1]:.0f} ms", file=sys.stderr)
    figures = {row: {n: statistics.median(t) for n, t in of.items() if t} for row, of in times.items()}
    print(f"{'ms, medians':24}{'capas':>10}{'podman':>10}{'ratio':>8}")
    for row, of in figures.items():
        podman = f"{of['podman']:10.1f}{of['podman'] / of['capas']:8.1f}" if "podman" in of else ""
        print(f"{row:24}{of['capas']:10.1f}{podman}")
    if args.json:
        with open(args.json, "w", encoding="utf-8") as out:
            json.dump({"images": args.images, "rounds": rounds, "ms": figures}, out, indent=2)
    late = [row for row, of in figures.items() if args.check is not None and of["capas"] > args.check]
    for row in late:
        print(f"{row}: {figures[row]['capas']:.1f} ms is more than {args.check:g} ms", file=sys.stderr)
    sys.exit(1 if late else 0)


main()
