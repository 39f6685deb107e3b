# SPDX-License-Identifier: Apache-2.0
"""The picture of a sweep: records decrypted whole over loss, or over reordering.

A line for each pair of slots and runs and one for the in-order device; where both loss and
reordering vary, a panel for each share of reordered segments.
"""

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

# Okabe and Ito's palette, which colour-blind readers can tell apart.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442")
MARKERS = ("o", "s", "^", "v", "D", "P")
IN_ORDER = "#000000"


def draw(report: dict[str, Any], path: Path) -> None:
    """Writes the picture; the format is what the file's name ends in, else PNG."""
    points = report["points"]
    x_name, panel_name = "loss", "reorder"
    if len({p["loss"] for p in points}) == 1 and len({p["reorder"] for p in points}) > 1:
        x_name, panel_name = panel_name, x_name
    panels = sorted({p[panel_name] for p in points})
    slots = sorted({p["slots"] for p in points})
    runs = sorted({p["runs"] for p in points})
    engine = ", ".join(sorted({p["engine"] for p in points}))
    figure = Figure(figsize=(7.5 * min(2, len(panels)), 5.4 * -(-len(panels) // 2)), dpi=110,
                    layout="constrained")
    figure.suptitle(f"TLS records decrypted whole by the device ({engine} engine)",
                    fontweight="bold")
    grid = figure.subplots(-(-len(panels) // 2), min(2, len(panels)), squeeze=False)
    for axes, value in zip(grid.flat, panels, strict=False):
        lines: dict[tuple[int, int], dict[float, float]] = {}
        for p in points:
            if p[panel_name] == value:
                size = (p["slots"], p["runs"]) if p["device"] == "sealane" else (0, 0)
                lines.setdefault(size, {})[p[x_name]] = p["whole"] / p["records"] * 100
        for (s, r), line in sorted(lines.items(), reverse=True):
            x, y = zip(*sorted(line.items()), strict=True)
            if s:
                axes.plot(x, y, color=COLOURS[slots.index(s) % len(COLOURS)], linewidth=1.8,
                          marker=MARKERS[runs.index(r) % len(MARKERS)], markersize=6, alpha=0.85,
                          label=f"sealane, {s} record slots, {r} runs")
            else:
                axes.plot(x, y, color=IN_ORDER, linewidth=1.8, linestyle="--", marker="x",
                          label="in-order device of tls-offload.rst")
        axes.set_ylim(0, 102)
        axes.set_xlim(left=0)
        axes.yaxis.set_major_formatter(PercentFormatter())
        axes.set_xticks(sorted({p[x_name] for p in points}))
        axes.xaxis.set_major_formatter(lambda x, _: f"{x:g}%")
        axes.set_xlabel({"loss": "segments lost", "reorder": "segments reordered"}[x_name])
        axes.set_ylabel("records whole")
        if len(panels) > 1 or value:
            other = {"loss": "lost", "reorder": "reordered"}[panel_name]
            axes.set_title(f"{value} % of the segments {other}", fontsize=10)
        axes.grid(alpha=0.3)
    # Every panel has the same lines.
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", fontsize=9, frameon=False,
                  ncols=min(4, 2 * min(2, len(panels))))
    for axes in list(grid.flat)[len(panels):]:
        axes.set_axis_off()
    figure.savefig(path, format=path.suffix[1:] or "png")
