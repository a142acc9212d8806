"""Rows and their goals, figures, the table and the JSON of a run."""

import dataclasses
import json
import math
import os
import platform
import statistics
import time
from typing import Callable

from harness import KINDS, REFERENCE


@dataclasses.dataclass(frozen=True)
class Goal:
    """What capasfs is to reach: at most `limit` times the cost that `of` has,
    or that it has itself in `row`, or at most `limit` of the row's unit."""

    limit: float
    of: str | None = REFERENCE
    row: str | None = None

    def text(self, unit):
        if self.row:
            return f"≤ {self.limit:g} of {self.row}"
        if self.of is None:
            return f"≤ {shown(self.limit, unit)}"
        return f"≤ {self.limit:g}" if self.of == REFERENCE else f"≤ {self.limit:g} of {self.of}"


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the table. `measure(bench, row, kind)` gives a figure, or None
    where there is none; `unit` is s, B or B/s (of which more is better)."""

    name: str
    title: str
    measure: Callable
    goals: tuple = ()
    unit: str = "s"
    prepare: Callable = lambda bench: None
    # Filesystems besides the usual ones, or in their place.
    extra: tuple = ()
    kinds: tuple | None = None
    # The curve that it is a point of, and where.
    curve: tuple | None = None
    argument: object = None

    def kinds_of(self, kinds):
        return [*(k for k in kinds if self.kinds is None or k in self.kinds), *self.extra]


def shown(value, unit):
    """A figure with the unit that suits it."""
    if unit == "s":
        for scale, name in ((1, "s"), (1e-3, "ms"), (1e-6, "µs")):
            if value >= scale:
                return f"{value / scale:.3g} {name}"
        return f"{value * 1e9:.3g} ns"
    for scale, name in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if abs(value) >= scale:
            return f"{value / scale:.3g} {name}{unit[1:]}"
    return f"{value:.3g} {unit}"


class Figures:
    """row -> kind -> values, one a round."""

    def __init__(self, rows):
        self.rows = {row.name: row for row in rows}
        self.values = {row.name: {} for row in rows}
        self.skipped = {}

    def add(self, row, kind, value):
        if value is not None:
            self.values[row.name].setdefault(kind, []).append(value)

    def median(self, name, kind):
        values = self.values.get(name, {}).get(kind)
        return statistics.median(values) if values else None

    def ratio(self, name, kind, of=REFERENCE):
        """Cost in units of another's: lower is better."""
        mine, theirs = self.median(name, kind), self.median(name, of)
        if not mine or not theirs:
            return None
        return theirs / mine if self.rows[name].unit == "B/s" else mine / theirs

    def reached(self, row, goal):
        """How much of a goal's measure there is, None if it was not measured."""
        mine = self.median(row.name, "capasfs")
        if goal.row:
            other = self.median(goal.row, "capasfs")
            return mine / other if mine is not None and other else None
        if goal.of is None:
            return mine
        return self.ratio(row.name, "capasfs", goal.of)

    def missed(self):
        """(row, goal, what was reached) of each goal that was not."""
        every = ((row, goal, self.reached(row, goal)) for row in self.rows.values() for goal in row.goals)
        return [(row, goal, got) for row, goal, got in every if got is not None and got > goal.limit]

    def verdict(self, row):
        reached = [(self.reached(row, goal), goal.limit) for goal in row.goals]
        known = [got <= limit for got, limit in reached if got is not None]
        return "" if not known else "yes" if all(known) else "NO"

    def table(self):
        kinds = [k for k in KINDS if any(k in values for values in self.values.values())]
        lines = ["| work | " + " | ".join(kinds) + " | goal | met |", "|---|" + "---|" * (len(kinds) + 2)]
        for name, row in self.rows.items():
            if not self.values[name]:
                continue
            cells = [self.cell(row, kind) for kind in kinds]
            goals = "; ".join(goal.text(row.unit) for goal in row.goals)
            extra = [f"{kind}: {self.cell(row, kind)}" for kind in row.extra if self.median(name, kind)]
            title = row.title + (f" ({', '.join(extra)})" if extra else "")
            lines.append(f"| {title} | " + " | ".join(cells) + f" | {goals} | {self.verdict(row)} |")
        lines += [f"\nnot measured: {', '.join(names)}: {why}" for why, names in self.skipped.items()]
        return "\n".join(lines)

    def cell(self, row, kind):
        value, ratio = self.median(row.name, kind), self.ratio(row.name, kind)
        if value is None:
            return "–"
        text = shown(value, row.unit)
        return text if ratio is None or kind == REFERENCE else f"{text} ({ratio:.2f})"

    def as_json(self, args):
        return {
            **machine(),
            "rounds": args.rounds,
            "quick": args.quick,
            "capasfs_options": args.capasfs_options,
            "rows": {
                name: {
                    "title": row.title,
                    "unit": row.unit,
                    "goals": [
                        {**dataclasses.asdict(goal), "reached": self.reached(row, goal)} for goal in row.goals
                    ],
                    "figures": {
                        kind: {"values": values, "median": self.median(name, kind), "ratio": self.ratio(name, kind)}
                        for kind, values in self.values[name].items()
                    },
                }
                for name, row in self.rows.items()
                if self.values[name]
            },
            "skipped": {name: why for why, names in self.skipped.items() for name in names},
        }


def machine():
    with open("/proc/cpuinfo", encoding="utf-8") as info:
        names = [line.split(":", 1)[1].strip() for line in info if line.startswith("model name")]
    return {
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "kernel": platform.release(),
        "cpu": names[0] if names else platform.machine(),
        "cpus": os.cpu_count(),
        "load": os.getloadavg()[0],
    }


def write_json(figures, args, path):
    with open(path, "w", encoding="utf-8") as out:
        json.dump(figures.as_json(args), out, indent=1, ensure_ascii=False, allow_nan=False)
        out.write("\n")


def decades(low, high):
    """Powers of ten around a range, for a logarithmic axis."""
    return range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
