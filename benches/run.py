"""capasfs, kernel overlayfs, fuse-overlayfs 2.0 and the plain filesystem side
by side. Started by scripts/bench."""

import argparse
import os
import sys

import rows_data
import rows_layers
import rows_memory
import rows_tree
from figures import Figures, machine, shown, write_json
from harness import KINDS, Bench, Skip, say
from svg import plots


def arguments():
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--only", default="", help="rows, by their name or by a part of it (comma separated)")
    parser.add_argument("--without", default="", help="rows to leave out, named in the same way")
    parser.add_argument("--list", action="store_true", help="the names of all rows")
    parser.add_argument("--rounds", type=int, help="default 3; 1 with --quick")
    parser.add_argument("--quick", action="store_true", help="small and short, for a look")
    parser.add_argument("--check", action="store_true", help="fail where capasfs misses a goal")
    parser.add_argument("--kinds", default=",".join(KINDS), help="filesystems, comma separated")
    parser.add_argument("--dir", help="where all is made: a directory on the disk to measure (default /var/tmp)")
    parser.add_argument("--json", help="write all figures to this file")
    parser.add_argument("--plots", help="write SVG plots into this directory")
    parser.add_argument("--capasfs", default="capasfs", help="the driver to run")
    parser.add_argument("--capasfs-options", default="", help="more mount options for it")
    parser.add_argument("--fo2", help="fuse-overlayfs 2.0 (found in PATH otherwise)")
    parser.add_argument("--archive", required=True, help="a root filesystem as a tar")
    parser.add_argument("--program", required=True, help="benches/work.rs, built")
    args = parser.parse_args()
    args.rounds = args.rounds or (1 if args.quick else 3)
    for name in ("capasfs", "archive", "program"):
        if "/" in (path := getattr(args, name)):
            setattr(args, name, os.path.abspath(path))
    return args


def named(rows, text):
    """The rows that words mean: by a whole name, else by parts of names."""
    names = {row.name for row in rows}
    means = lambda word, row: row.name == word if word in names else word in row.name
    words = [word for word in text.split(",") if word]
    return [row for row in rows if any(means(word, row) for word in words)]


def chosen(rows, only, without):
    left_out = named(rows, without)
    return [row for row in (named(rows, only) if only else rows) if row not in left_out]


def one_round(bench, figures, rows, turn):
    for number, row in enumerate(rows):
        if row.once and turn > 0:
            continue
        kinds = row.kinds_of(bench.kinds)
        start = (turn + number) % max(len(kinds), 1)
        try:
            row.prepare(bench)
            for kind in kinds[start:] + kinds[:start]:
                os.sync()
                figures.add(row, kind, row.measure(bench, row, kind))
        except Skip as why:
            names = figures.skipped.setdefault(str(why), [])
            if row.name not in names:
                names.append(row.name)


def main():
    args = arguments()
    every = [
        *rows_data.rows(args),
        *rows_tree.rows(args),
        *rows_layers.rows(args),
        *rows_memory.rows(args),
    ]
    if args.list:
        print("\n".join(f"{row.name:24} {row.title}" for row in every))
        return
    rows = chosen(every, args.only, args.without)
    if not rows:
        sys.exit(f"no row is left of --only {args.only!r} --without {args.without!r}; --list shows them")
    options = {"rounds": args.rounds, "quick": args.quick, "capasfs_options": args.capasfs_options}
    figures = Figures(rows, {**machine(), **options})
    with Bench(args) as bench:
        for turn in range(args.rounds):
            one_round(bench, figures, rows, turn)
            say(f"round {turn + 1} of {args.rounds} done")
    print("\n\n".join([figures.table(points=True), *figures.left_out()]))
    if args.json:
        write_json(figures, args.json)
    if args.plots:
        plots(figures, rows_layers.CURVES, args.plots)
    missed = figures.missed()
    for row, goal, got in missed:
        amount = shown(got, row.unit) if goal.of is None and not goal.row else f"{got:.2f}"
        say(f"missed: {row.name}: {amount}, goal {figures.goal_text(row, goal)}")
    if args.check and missed:
        sys.exit(1)


main()
