# SPDX-License-Identifier: Apache-2.0
"""The picture of a sweep: records decrypted whole over loss, or over reordering.

A line for each pair of slots (colour) and runs (marker) and one for the in-order device; where both
loss and reordering vary, a panel for each share of reordered segments.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter

from ..config_arguments import flags_of

# Okabe and Ito's palette, which colour-blind readers can tell apart.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442")
# Where lines coincide all are still seen: markers are hollow and of different sizes, and lines of
# more slots are wider and lie below.
MARKERS = (("o", 11), ("s", 8.5), ("^", 6.5), ("v", 4.5), ("D", 3.5), ("P", 3))
IN_ORDER = "#000000"
NAMES = {"loss": "lost", "reorder": "reordered"}
MAX_TICKS = 12


def draw(report: dict[str, Any], path: Path) -> None:
    """Writes the picture; the format is what the file's name ends in, else PNG."""
    points = report["points"]
    x_name, panel_name = "loss", "reorder"
    if len({p["loss"] for p in points}) == 1 and len({p["reorder"] for p in points}) > 1:
        x_name, panel_name = panel_name, x_name
    panels = sorted({p[panel_name] for p in points})
    styles = _styles(points)
    wide, high = min(2, len(panels)), -(-len(panels) // 2)
    figure = Figure(figsize=(7.5 * wide, 1.2 + 4.6 * high), dpi=110, layout="constrained")
    engine = ", ".join(sorted({p["engine"] for p in points}))
    records = ", ".join(map(str, sorted({p["records"] for p in points})))
    title = f"TLS records decrypted whole ({engine} engine) {flags_of(points[0])}"
    figure.suptitle(f"{title.rstrip()}\n{records} records a point", fontsize=11)
    grid = figure.subplots(high, wide, squeeze=False)
    for axes, value in zip(grid.flat, panels, strict=False):
        _panel(axes, [p for p in points if p[panel_name] == value], x_name, styles)
        if len(panels) > 1 or value:
            axes.set_title(f"{value} % of the segments {NAMES[panel_name]}", fontsize=10)
    for axes in list(grid.flat)[len(panels) :]:
        axes.set_axis_off()
    figure.legend(
        handles=_legend(styles),
        loc="outside lower center",
        fontsize=9,
        frameon=False,
        ncols=2 * wide,
    )
    figure.savefig(path, format=path.suffix[1:] or "png")


def _styles(points: Iterable[dict[str, Any]]) -> dict[tuple[int, int], dict[str, Any]]:
    """How the line of each pair of slots and runs looks."""
    sizes = sorted({(p["slots"], p["runs"]) for p in points})
    slots, runs = sorted({s for s, _ in sizes}), sorted({r for _, r in sizes})
    out = {}
    for s, r in sizes:
        marker, size = MARKERS[runs.index(r) % len(MARKERS)]
        level = slots.index(s)
        out[s, r] = {
            "color": COLOURS[level % len(COLOURS)],
            "linewidth": 1.4 + min(level, 4) * 1.4,
            "zorder": 3 - level / 100,
            "marker": marker,
            "markersize": size,
            "markerfacecolor": "none",
            "markeredgewidth": 1.4,
        }
    return out


OTHERS: dict[str, Any] = {
    "color": IN_ORDER,
    "linewidth": 1.6,
    "linestyle": "--",
    "marker": "x",
    "zorder": 4,
}


def _panel(
    axes: Axes,
    points: Iterable[dict[str, Any]],
    x_name: str,
    styles: dict[tuple[int, int], dict[str, Any]],
) -> None:
    lines: dict[tuple[int, int] | None, dict[float, float]] = {}
    for p in points:
        size = (p["slots"], p["runs"]) if p["device"] == "sealane" else None
        lines.setdefault(size, {})[p[x_name]] = p["whole"] / p["records"] * 100
    for size, line in lines.items():
        x, y = zip(*sorted(line.items()), strict=True)
        axes.plot(x, y, clip_on=False, **(styles[size] if size else OTHERS))
    axes.set_ylim(0, 100)
    ticks = sorted({at for line in lines.values() for at in line})
    axes.set_xlim(0, ticks[-1] or 1)
    if len(ticks) <= MAX_TICKS:
        axes.set_xticks(ticks)
    axes.yaxis.set_major_formatter(PercentFormatter())
    axes.xaxis.set_major_formatter(lambda x, _: f"{x:g}%")
    axes.set_xlabel(f"segments {NAMES[x_name]}")
    axes.set_ylabel("records whole")
    axes.grid(alpha=0.3)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _legend(styles: dict[tuple[int, int], dict[str, Any]]) -> list[Line2D]:
    """A line each; where slots and runs both vary, colours and markers by themselves."""
    slots, runs = sorted({s for s, _ in styles}), sorted({r for _, r in styles})
    if len(slots) > 1 and len(runs) > 1:
        grey: dict[str, Any] = {"color": "#606060", "linestyle": ""}
        lines = [
            Line2D(
                [],
                [],
                label=f"sealane, {s} record slots",
                linewidth=4,
                color=styles[s, runs[0]]["color"],
            )
            for s in slots
        ] + [
            Line2D(
                [],
                [],
                label=f"sealane, {r} runs",
                **styles[slots[0], r] | grey,
            )
            for r in runs
        ]
    else:
        lines = [
            Line2D([], [], label=f"sealane, {s} record slots, {r} runs", **style)
            for (s, r), style in styles.items()
        ]
    return [*lines, Line2D([], [], label="in-order device of Linux's tls-offload.rst", **OTHERS)]
