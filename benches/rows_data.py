"""Data: the fio job files beside this program, databases, one large file."""

import glob
import json
import os
import subprocess
import sys

import rows_layers
from figures import Goal, Row
from harness import fill

HERE = os.path.dirname(os.path.abspath(__file__))
FIO_GOALS = {"seq-write-buffered": 1.1, "rand-write-fsync16": 1.15}

SQLITE = """
import sqlite3, sys, time
base = sqlite3.connect(sys.argv[1], isolation_level=None)
base.execute("create table t (a integer primary key, b text)")
before = time.perf_counter()
for number in range(300):
    base.execute("begin")
    base.execute("insert into t values (?, ?)", (number, "x" * 100))
    base.execute("commit")
print(time.perf_counter() - before)
"""


def data_layers(size):
    def make(layer):
        fill(os.path.join(layer("data"), "lower.dat"), size)
        os.makedirs(os.path.join(layer("top"), "dir"))

    return lambda bench: bench.stack("data", make)


def big_layer(size):
    return lambda bench: bench.stack("big", lambda layer: fill(os.path.join(layer("only"), "big"), size))


def fio(bench, row, kind):
    job, jobs, size, runtime = row.argument
    with bench.mounted(kind, "data") as (point, _):
        if "write" in job:
            fill(f"{point}/upper.dat", size)
        else:
            with open(f"{point}/lower.dat", "rb") as data:
                while data.read(2**20):
                    pass
        env = dict(os.environ, DIR=point, SIZE=str(size), RUNTIME=str(runtime), JOBS=str(jobs))
        command = ["fio", "--output-format=json", os.path.join(HERE, "fio", job + ".fio")]
        out = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
        if out.returncode != 0:
            sys.exit(f"fio {job} on {kind}: {out.stderr or out.stdout}")
        result = json.loads(out.stdout[out.stdout.index("{") :])["jobs"][0]
        return result["read"]["bw_bytes"] + result["write"]["bw_bytes"]


def sqlite(bench, _row, kind):
    with bench.mounted(kind, "data") as (point, _):
        out = subprocess.run(
            [sys.executable, "-c", SQLITE, f"{point}/base"], capture_output=True, text=True, check=True
        )
        return float(out.stdout) / 300


def on_big(bench, row, kind):
    work = row.name.removesuffix("-lazy")
    with bench.mounted(kind, "big", more=rows_layers.LAZY if work != row.name else ()) as (point, _):
        return bench.work(work, point)[0]


def rows(args):
    size = 2**26 if args.quick else 2**28
    runtime = 1 if args.quick else 2
    big = 2**28 if args.quick else 2**30
    for path in sorted(glob.glob(os.path.join(HERE, "fio", "*.fio"))):
        job = os.path.basename(path).removesuffix(".fio")
        for jobs in (1, 2):
            yield Row(
                f"fio-{job}-{jobs}",
                f"fio {job}, {jobs} job{'s' * (jobs - 1)}",
                fio,
                (Goal(FIO_GOALS.get(job, 1.05)),),
                unit="B/s",
                prepare=data_layers(size),
                argument=(job, jobs, size, runtime),
            )
    yield Row("sqlite", "sqlite, a transaction (300)", sqlite, (Goal(1.2),), prepare=data_layers(size))
    name = "256 MiB" if args.quick else "1 GiB"
    yield Row(
        "append-big",
        f"first append to a lower file of {name}",
        on_big,
        (Goal(1.05),),
        prepare=big_layer(big),
        curve=("copy-up", big),
    )
    yield Row(
        "append-big-lazy",
        "the same with lazy_copy_up=on",
        on_big,
        (Goal(0.01), Goal(5e-3, of=None)),
        prepare=big_layer(big),
        curve=("copy-up", big, "with lazy_copy_up=on"),
    )
    yield Row(
        "chmod-big",
        f"chmod of a lower file of {name}",
        on_big,
        (Goal(2e-3, of=None),),
        prepare=big_layer(big),
        extra=("overlay-no-metacopy",),
    )
