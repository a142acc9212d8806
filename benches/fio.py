"""The fio job files beside this program on capasfs, kernel overlayfs,
fuse-overlayfs 2.0 and the plain filesystem. Started by scripts/bench-fio."""

import glob
import json
import os
import subprocess
import sys

from harness import Bench, Figures, arguments, chosen, fill, say

HERE = os.path.dirname(os.path.abspath(__file__))


def fio(row, jobs, point, size, runtime):
    env = dict(os.environ, DIR=point, SIZE=f"{size}m", RUNTIME=str(runtime), JOBS=str(jobs))
    job = os.path.join(HERE, "fio", row + ".fio")
    out = subprocess.run(
        ["fio", "--output-format=json", job], env=env, capture_output=True, text=True, check=False
    )
    if out.returncode != 0:
        sys.exit(f"fio {row} on {point}: {out.stderr or out.stdout}")
    text = out.stdout
    result = json.loads(text[text.index("{"):])["jobs"][0]
    return (result["read"]["bw_bytes"] + result["write"]["bw_bytes"]) / 2**20


def warm(path):
    with open(path, "rb") as data:
        while data.read(2**20):
            pass


def main():
    parser = arguments(__doc__)
    parser.add_argument("--size", type=int, help="MiB of the file (256; 64 with --quick)")
    parser.add_argument("--runtime", type=int, help="seconds of a job (3; 1 with --quick)")
    parser.add_argument("--jobs", default="1", help="numbers of jobs, comma separated, e.g. 1,2")
    parser.add_argument("--check", type=float, metavar="RATIO", help="fail where capasfs has less than this of kernel overlayfs")
    args = parser.parse_args()
    size = args.size or (64 if args.quick else 256)
    runtime = args.runtime or (1 if args.quick else 3)
    rows = sorted(os.path.basename(path)[:-4] for path in glob.glob(os.path.join(HERE, "fio", "*.fio")))
    rows = [(row, int(jobs)) for jobs in args.jobs.split(",") for row in chosen(rows, args.only)]
    figures = Figures("MiB/s", bigger=True)
    with Bench(args) as bench:
        fill(os.path.join(bench.lower("data"), "lower.dat"), size)
        os.makedirs(os.path.join(bench.lower("top"), "dir"))
        for turn in range(args.rounds):
            points = {}
            for kind in bench.rotated(turn):
                points[kind], _ = bench.mount(kind)
                fill(os.path.join(points[kind], "upper.dat"), size)
                warm(os.path.join(points[kind], "lower.dat"))
            for number, (row, jobs) in enumerate(rows):
                for kind in bench.rotated(turn + number):
                    os.sync()
                    value = fio(row, jobs, points[kind], size, runtime)
                    figures.add(row if jobs == 1 else f"{row}, {jobs} jobs", kind, value)
            for kind in list(points):
                bench.umount(kind)
            say(f"round {turn + 1} of {args.rounds} done")
        figures.finish(args, bench.kinds)
    if args.check is not None:
        missed = [row for row in figures.rows if (figures.ratio(row, "capasfs") or 0) < args.check]
        for row in missed:
            say(f"below {args.check} of kernel overlayfs: {row} ({figures.ratio(row, 'capasfs') or 0:.2f})")
        sys.exit(1 if missed else 0)


main()
