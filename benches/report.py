"""The table and the plots of JSON files that scripts/bench has written, all of
them in one. Started by scripts/bench-report."""

import argparse
import json
import os
import sys

import rows_layers
from figures import from_json
from svg import plots

START, END = "<!-- bench-report writes this -->", "<!-- to here -->"


def arguments():
    parser = argparse.ArgumentParser(prog="bench-report", description=__doc__)
    parser.add_argument("json", nargs="+", help="files of --json; of a row in several the last counts")
    parser.add_argument("--plots", help="write SVG plots into this directory")
    parser.add_argument("--readme", help="write the table and links to the plots into this file, where it is marked")
    return parser.parse_args()


def about(run, all_rounds):
    """What was measured where, in how many rounds."""
    date, memory = run["date"].split("T")[0], round(run["memory"] / 2**30)
    kernel = ".".join(run["kernel"].split("-")[0].split(".")[:2])
    few, many = min(all_rounds), max(all_rounds)
    rounds = f"{few} round{'s' * (few != 1)}" if few == many else f"{few} to {many} rounds"
    small = ", small and short (`--quick`)" if run["quick"] else ""
    options = f", capasfs with `{run['capasfs_options']}`" if run["capasfs_options"] else ""
    return (
        f"Measured on {date}, Linux {kernel}, {run['cpus']} processors ({run['cpu']}), {memory} GiB of memory, "
        f"medians of {rounds}{small}{options}; in brackets the cost in units of kernel overlayfs's."
    )


def into(path, text):
    with open(path, encoding="utf-8") as file:
        before, start, rest = file.read().partition(START)
    _, end, after = rest.partition(END)
    if not start or not end:
        sys.exit(f"{path} has no lines {START!r} and {END!r}")
    with open(path, "w", encoding="utf-8") as file:
        file.write(f"{before}{START}\n\n{text}\n\n{END}{after}")


def main():
    args = arguments()
    documents = []
    for path in args.json:
        with open(path, encoding="utf-8") as file:
            documents.append(json.load(file))
    figures = from_json(documents)
    parts = [about(figures.about, [one["rounds"] for one in documents]), figures.table(), *figures.left_out()]
    if args.plots:
        made = plots(figures, rows_layers.CURVES, args.plots)
        if args.readme:
            here = os.path.dirname(os.path.abspath(args.readme))
            parts += [f"![{title}]({os.path.relpath(path, here)})" for title, path in made]
    text = "\n\n".join(parts)
    if args.readme:
        into(args.readme, text)
    else:
        print(text)


main()
