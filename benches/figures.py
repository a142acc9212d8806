"""Rows and their goals, figures, the table, and the JSON of a run, from which
they are made again."""

import dataclasses
import json
import math
import os
import platform
import statistics
import time
from typing import Callable

from harness import EXTRA, KINDS, REFERENCE, TITLES


@dataclasses.dataclass(frozen=True)
class Goal:
    """What capasfs is to reach: at most `limit` times the cost that `of` has,
    or that it has itself in `row`, or at most `limit` of the row's unit."""

    limit: float
    of: str | None = REFERENCE
    row: str | None = None


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the table. `measure(bench, row, kind)` gives a figure, or None
    where there is none; `unit` is s, B or B/s (of which more is better)."""

    name: str
    title: str
    # None where figures come from a file.
    measure: Callable | None = None
    goals: tuple = ()
    unit: str = "s"
    prepare: Callable = lambda bench: None
    # Filesystems besides the usual ones, or in their place.
    extra: tuple = ()
    kinds: tuple | None = None
    # The curve that it is a point of, and where; and what capasfs is called on
    # it, if it does not run as usual.
    curve: tuple | None = None
    # Too slow to be measured in more rounds than the first.
    once: bool = False
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

    def __init__(self, rows, about=None):
        # What is known of the run: as in the JSON, but for the rows.
        self.about = about or {}
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

    def in_table(self, points=False):
        """Rows with figures; of curves' points those that have a goal or are another's
        measure, if not all are wanted."""
        measures = {goal.row for row in self.rows.values() for goal in row.goals}
        for name, row in self.rows.items():
            if self.values[name] and (points or row.goals or not row.curve or name in measures):
                yield row

    def table(self, points=False):
        kinds = [k for k in KINDS if any(k in values for values in self.values.values())]
        titles = [TITLES[kind] for kind in kinds]
        lines = ["| work | " + " | ".join(titles) + " | goal | met |", "|---|" + "---|" * (len(kinds) + 2)]
        for row in self.in_table(points):
            cells = [self.cell(row, kind) for kind in kinds]
            goals = "; ".join(self.goal_text(row, goal) for goal in row.goals)
            extra = [f"{EXTRA[kind]}: {self.cell(row, kind)}" for kind in row.extra if self.median(row.name, kind)]
            title = row.title + (f" ({', '.join(extra)})" if extra else "")
            lines.append(f"| {title} | " + " | ".join(cells) + f" | {goals} | {self.verdict(row)} |")
        return "\n".join(lines)

    def goal_text(self, row, goal):
        if goal.row:
            title = self.rows[goal.row].title if goal.row in self.rows else goal.row
            return f"≤ {goal.limit:g} of {title}"
        if goal.of is None:
            return f"≤ {shown(goal.limit, row.unit)}"
        return f"≤ {goal.limit:g}" if goal.of == REFERENCE else f"≤ {goal.limit:g} of {EXTRA[goal.of]}"

    def left_out(self):
        """Rows that could not be measured, a line for each reason."""
        return [f"not measured: {', '.join(names)}: {why}" for why, names in self.skipped.items()]

    def cell(self, row, kind):
        value, ratio = self.median(row.name, kind), self.ratio(row.name, kind)
        if value is None:
            return "–"
        text = shown(value, row.unit)
        return text if ratio is None or kind == REFERENCE else f"{text} ({ratio:.2f})"

    def as_json(self):
        return {
            **self.about,
            "rows": {
                name: {
                    "title": row.title,
                    "unit": row.unit,
                    "extra": row.extra,
                    "curve": row.curve,
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


def from_json(documents):
    """The figures of several runs in one; of a row in several the last counts."""
    rows, values, skipped, about = {}, {}, {}, {}
    for document in documents:
        about.update((key, value) for key, value in document.items() if key not in ("rows", "skipped"))
        skipped.update(document["skipped"])
        for name, row in document["rows"].items():
            goals = tuple(Goal(goal["limit"], goal["of"], goal["row"]) for goal in row["goals"])
            curve = tuple(row["curve"]) if row["curve"] else None
            rows[name] = Row(
                name, row["title"], goals=goals, unit=row["unit"], extra=tuple(row["extra"]), curve=curve
            )
            values[name] = {kind: figure["values"] for kind, figure in row["figures"].items()}
    figures = Figures(rows.values(), about)
    figures.values = values
    for name, why in skipped.items():
        figures.skipped.setdefault(why, []).append(name)
    return figures


def machine():
    with open("/proc/cpuinfo", encoding="utf-8") as info:
        names = [line.split(":", 1)[1].strip() for line in info if line.startswith("model name")]
    return {
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "kernel": platform.release(),
        "cpu": names[0] if names else platform.machine(),
        "cpus": os.cpu_count(),
        "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "load": os.getloadavg()[0],
    }


def write_json(figures, path):
    with open(path, "w", encoding="utf-8") as out:
        json.dump(figures.as_json(), out, indent=1, ensure_ascii=False, allow_nan=False)
        out.write("\n")


def decades(low, high):
    """Powers of ten around a range, for a logarithmic axis."""
    return range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
