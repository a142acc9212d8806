"""Plots as SVG: ratios as bars on a logarithmic axis, and curves."""

import math
import os
from html import escape

from figures import decades, shown
from harness import KINDS, REFERENCE, TITLES

COLOURS = {"capasfs": "#1b6ca8", "overlay": "#555555", "fuse-overlayfs": "#d08020", "plain": "#5a9a4a"}
# What capasfs is called where it does not run as usual.
OTHER = "#7fc0e8"
STYLE = "<style>text{font:12px sans-serif;fill:#222}.small{font-size:10px}line{stroke:#ccc}</style>"


class Drawing:
    """Shapes, and the file they become."""

    def __init__(self, width, height, title):
        self.width, self.height = width, height
        self.parts = [STYLE, f'<rect width="{width}" height="{height}" fill="#fff"/>']
        self.text(8, 18, title, weight="bold")

    def text(self, x, y, words, anchor="start", small=False, weight="normal"):
        kind = ' class="small"' if small else ""
        self.parts.append(
            f'<text{kind} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}">{escape(words)}</text>'
        )

    def line(self, x1, y1, x2, y2, stroke="#ccc", width=1.0):
        self.parts.append(
            f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" style="stroke:{stroke};stroke-width:{width}"/>'
        )

    def bar(self, x, y, width, height, colour):
        self.parts.append(f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{colour}"/>')

    def points(self, places, colour):
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        self.parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        self.parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="{colour}"/>' for x, y in places]

    def legend(self, kinds, x, y):
        for kind in kinds:
            title = TITLES.get(kind, f"capasfs {kind}")
            self.bar(x, y - 9, 10, 10, COLOURS.get(kind, OTHER))
            self.text(x + 14, y, title)
            x += 28 + 6.3 * len(title)

    def write(self, path):
        with open(path, "w", encoding="utf-8") as out:
            out.write(f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height}">\n')
            out.write("\n".join(self.parts) + "\n</svg>\n")


def logarithmic(low, high, start, end):
    """The powers of ten that span a range, and where a value lies on the axis."""
    powers = decades(low, high)
    first, last = powers[0], max(powers[-1], powers[0] + 1)
    return range(first, last + 1), lambda v: start + (math.log10(v) - first) / (last - first) * (end - start)


def bars(figures, path):
    """Cost of each row in units of kernel overlayfs's, with the goals as ticks."""
    kinds = [kind for kind in KINDS if kind != REFERENCE]
    rows = []
    table = list(figures.in_table())
    for name, row in figures.rows.items():
        ratios = {kind: figures.ratio(name, kind) for kind in kinds}
        ratios = {kind: ratio for kind, ratio in ratios.items() if ratio}
        if ratios and row in table:
            rows.append((row, ratios))
    if not rows:
        return False
    every = [ratio for _, ratios in rows for ratio in ratios.values()]
    left, width, step = 330, 900, 8
    height = 70 + sum(step * len(ratios) + 8 for _, ratios in rows)
    drawing = Drawing(width, height, "cost in units of kernel overlayfs's (lower is better; red: the goal)")
    drawing.legend(kinds, left, 36)
    powers, place = logarithmic(min(every) / 1.5, max(every) * 1.5, left, width - 20)
    for power in powers:
        drawing.line(place(10**power), 48, place(10**power), height - 8)
        drawing.text(place(10**power), 48, f"{10**power:g}", anchor="middle", small=True)
    y = 54
    for row, ratios in rows:
        drawing.text(left - 6, y + step * len(ratios) / 2 + 4, row.title, anchor="end", small=True)
        for number, (kind, ratio) in enumerate(ratios.items()):
            start, end = sorted((place(1), place(ratio)))
            drawing.bar(start, y + number * step, max(end - start, 1), step - 1, COLOURS[kind])
        for goal in row.goals:
            if goal.of == REFERENCE and not goal.row and 10 ** powers[0] <= goal.limit:
                drawing.line(place(goal.limit), y - 1, place(goal.limit), y + step * len(ratios), "#c00", 1.5)
        y += step * len(ratios) + 8
    drawing.line(place(1), 48, place(1), height - 8, "#555")
    drawing.write(path)
    return True


def curve(figures, rows, title, axis, path):
    """A cost against a quantity, both logarithmic."""
    lines = {}
    for row in rows:
        for kind in KINDS:
            name = row.curve[2] if row.curve[2:] and kind == "capasfs" else kind
            # A row of capasfs in another way has the others only beside it.
            if (value := figures.median(row.name, kind)) and (name != kind or not row.curve[2:]):
                lines.setdefault(name, []).append((row.curve[1], value))
    if not lines:
        return False
    xs = [x for places in lines.values() for x, _ in places]
    ys = [y for places in lines.values() for _, y in places]
    drawing = Drawing(640, 360, title)
    drawing.legend(list(lines), 70, 36)
    across, x_of = logarithmic(min(xs), max(xs), 70, 620)
    up, y_of = logarithmic(min(ys), max(ys), 315, 50)
    for power in across:
        drawing.line(x_of(10**power), 50, x_of(10**power), 315)
        drawing.text(x_of(10**power), 330, f"{10**power:,}", anchor="middle", small=True)
    for power in up:
        drawing.line(70, y_of(10**power), 620, y_of(10**power))
        drawing.text(64, y_of(10**power) + 4, shown(10**power, rows[0].unit), anchor="end", small=True)
    drawing.text(345, 350, axis, anchor="middle")
    for kind, places in lines.items():
        drawing.points([(x_of(x), y_of(y)) for x, y in sorted(places)], COLOURS.get(kind, OTHER))
    drawing.write(path)
    return True


def plots(figures, curves, directory):
    """Every plot there are figures for: `curves` gives title and axis by name.
    Their titles and files."""
    os.makedirs(directory, exist_ok=True)
    file = lambda name: os.path.join(directory, f"{name}.svg")
    made = []
    if bars(figures, file("rows")):
        made.append(("cost in units of kernel overlayfs's", file("rows")))
    for name, (title, axis) in curves.items():
        rows = [row for row in figures.rows.values() if row.curve and row.curve[0] == name]
        if curve(figures, rows, title, axis, file(name)):
            made.append((f"{title}, by {axis}", file(name)))
    return made
