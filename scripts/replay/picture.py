# SPDX-License-Identifier: Apache-2.0
"""The picture of a replay: where the hardware decrypted, where it did not, and why.

One row of panels for each direction of a connection. The large panel is a time-sequence graph:
every segment at its place in the order of arrival and at its stream offset, coloured by what the
device did with it; holes in the stream as hatched boxes from the segment that opened them to the
one that filled them; resync, park and key events as symbols. Below it the same colours segment by
segment, and at the right the records of the stream by how the hardware left them.
"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PatchCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from sealane.driver.replay.trace import RecordTrace, SegmentTrace, Trace

from ..config_arguments import flags_of

MAX_PANELS = 8
DUPLICATE = "duplicate: no new byte"

# Okabe and Ito's palette, which colour-blind readers can tell apart, and greys for what no engine
# could have decrypted.
COLOURS = {
    "decrypted": "#009E73",
    "searching": "#D55E00",
    "awaiting_proof": "#E69F00",
    "seen_bytes": "#56B4E9",
    "parked": "#CC79A7",
    "held": "#8B5A9B",
    "mixed": "#B8A15A",
    "tag_mismatch": "#B00020",
    "given_up": "#7A1F00",
    "out_of_window": "#F0E442",
    "stale_generation": "#0072B2",
    "not_open": "#4D6A9A",
    "no_flow": "#A0A0A0",
    "flags": "#707070",
    "bad_checksum": "#000000",
    "oversize": "#505050",
    "not_tcp": "#303030",
    "no_payload": "#D0D0D0",
    DUPLICATE: "#D9D9D9",
}
RECORDS = {"full": "#009E73", "partial": "#E69F00", "none": "#D55E00", "other": "#C8C8C8"}
# Event kind: marker, colour, what the legend calls it.
EVENTS = {
    "resync_request": ("v", "#D55E00", "resync request"),
    "resync_confirmed": ("^", "#0072B2", "confirmed by software"),
    "resync_refused": ("X", "#B00020", "refused by software"),
    "resumed": ("*", "#009E73", "resumed"),
    "parked": ("s", "#CC79A7", "parked"),
    "key_update": ("D", "#0072B2", "rekey"),
    "go_on": ("o", "#CC79A7", "go on"),
    "resync_hint": ("d", "#0072B2", "resync hint"),
    "tag_mismatch": ("x", "#B00020", "tag mismatch"),
    "given_up": ("P", "#7A1F00", "search given up"),
    "installed": (">", "#333333", "context installed"),
}
# Which of an event's positions says where in the stream it belongs.
POSITIONS = ("resumed_at", "guess", "lost_at", "offset")


def holes(
    segments: Iterable[SegmentTrace],
) -> tuple[list[tuple[int, int, int, int]], set[int]]:
    """Gaps in the stream as (segment that opened it, segment that filled it, start, end), and the
    segments that brought no new byte.

    Segments count from 0; a gap that nothing fills ends at the last one.
    """
    duplicates = set()
    open_: list[tuple[int, int, int]] = []  # opened by, start, end
    closed: list[tuple[int, int, int, int]] = []
    high: int | None = None
    last = 0
    for last, segment in enumerate(segments):
        start, end = segment.offset, segment.offset + segment.length
        if high is None:
            high = min(start, 0)
        before = len(closed)
        rest = []
        for opened, low, top in open_:
            if end <= low or start >= top:
                rest.append((opened, low, top))
                continue
            closed.append((opened, last, max(low, start), min(top, end)))
            rest += [(opened, a, b) for a, b in ((low, start), (end, top)) if a < b]
        open_ = rest
        if start > high:
            open_.append((last, high, start))
        if end <= high and len(closed) == before:
            duplicates.add(last)
        high = max(high, end)
    return closed + [(opened, last, low, top) for opened, low, top in open_], duplicates


def _unit(span: int) -> tuple[float, str]:
    """Divisor and name for an axis of `span` bytes."""
    if span >= 4_000_000:
        return 1e6, "MB"
    return (1e3, "kB") if span >= 4_000 else (1.0, "bytes")


def _segments(axes: Axes, segments: Sequence[SegmentTrace], unit: float, width: float) -> None:
    """Each segment as a vertical bar; what was not decrypted is drawn last and wider."""
    for marked in (True, False):
        chosen = [(x, s) for x, s in enumerate(segments) if (s.outcome == "decrypted") is marked]
        axes.add_collection(
            LineCollection(
                [((x, s.offset / unit), (x, (s.offset + s.length) / unit)) for x, s in chosen],
                colors=[COLOURS.get(s.outcome, "#000000") for _, s in chosen],
                linewidths=width if marked else width * 1.5,
                zorder=3 if marked else 4,
            )
        )


def _events(
    axes: Axes, events: Iterable[dict[str, Any]], segments: Sequence[SegmentTrace], unit: float
) -> set[str]:
    """Symbols at the segment that brought the event; returns the kinds that were drawn."""
    seen = set()
    packets = [s.packet for s in segments]
    for event in events:
        style = EVENTS.get(event["kind"])
        at = next((event[p] for p in POSITIONS if event.get(p) is not None), None)
        if style is None or at is None:
            continue
        seen.add(event["kind"])
        marker, colour, _ = style
        edge: dict[str, Any] = {} if marker == "x" else {"edgecolors": "white"}
        x = bisect_left(packets, event["packet"])
        axes.scatter(
            [x],
            [at / unit],
            s=70,
            marker=marker,
            color=colour,
            linewidths=1.6 if marker == "x" else 0.7,
            zorder=6,
            **edge,
        )
    return seen


def _strip(axes: Axes, segments: Sequence[SegmentTrace]) -> None:
    """One cell a segment, in the order of arrival; ticks name the packet in the capture too."""
    axes.add_collection(
        PatchCollection(
            [Rectangle((x - 0.5, 0), 1, 1) for x in range(len(segments))],
            facecolors=[COLOURS.get(s.outcome, "#000000") for s in segments],
            linewidths=0,
        )
    )
    axes.set_ylim(0, 1)
    axes.set_yticks([])
    axes.xaxis.set_major_formatter(
        lambda x, _: (
            f"{x:.0f}\n#{segments[round(x)].packet}" if 0 <= round(x) < len(segments) else ""
        )
    )
    axes.set_xlabel("segment of this direction (# packet in the capture)")


def _records(axes: Axes, records: Sequence[RecordTrace], unit: float) -> None:
    """The stream's records at their offsets."""
    axes.add_collection(
        PatchCollection(
            [Rectangle((0, r.offset / unit), 1, r.length / unit) for r in records],
            facecolors=[RECORDS[r.outcome] for r in records],
            edgecolors="white",
            linewidths=0.3 if len(records) < 400 else 0,
        )
    )
    axes.set_xlim(0, 1)
    axes.set_xticks([])
    axes.set_xlabel("records", fontsize=9)
    axes.tick_params(labelleft=False)


def _title(connection: dict[str, Any], direction: str, duplicates: int) -> str:
    rx = connection[direction]["rx"]
    ends = [
        f"{connection['client']}:{connection['client_port']}",
        f"{connection['server']}:{connection['server_port']}",
    ]
    if direction == "s2c":
        ends.reverse()
    text = (
        f"{ends[0]} \N{RIGHTWARDS ARROW} {ends[1]}   "
        f"TLS {connection['version']} {connection['cipher']}\n"
        f"{rx['segments_decrypted']} of {rx['segments']} segments decrypted, "
        f"{duplicates} brought nothing new    "
        f"records: {rx['records_full']} whole, {rx['records_partial']} partly, "
        f"{rx['records_none']} not at all    "
        f"resyncs: {rx['resync']['requested']}    parks: {rx['parks']}"
    )
    if not connection["offloaded"]:
        text += f"\nnot offloaded: {connection['reason']}"
    return text


def draw(report: dict[str, Any], trace: Trace, path: Path) -> None:
    """Writes the picture of a replay; the format is what the file's name ends in, else PNG.

    Of more than `MAX_PANELS` directions the busiest are shown and the rest counted.
    """
    directions: dict[tuple[int, str], list[SegmentTrace]] = {}
    for segment in trace.segments:
        directions.setdefault((segment.connection, segment.direction), []).append(segment)
    busiest = sorted(directions, key=lambda w: -sum(s.length for s in directions[w]))[:MAX_PANELS]
    shown = sorted(busiest)
    rows = max(1, len(shown))
    figure = Figure(figsize=(14, 1.6 + 5.0 * rows), dpi=110, layout="constrained")
    title = f"{report['capture']}: receive offload, {report['engine']} engine {flags_of(report)}"
    figure.suptitle(
        title.rstrip()
        + (
            f" ({len(directions) - rows} quieter directions not shown)"
            if len(directions) > rows
            else ""
        ),
        fontweight="bold",
        parse_math=False,
    )
    parts = figure.subfigures(rows, 1, squeeze=False)
    used: set[str] = set()
    kinds: set[str] = set()
    for part, key in zip(parts[:, 0], shown, strict=False):
        index, direction = key
        segments = directions[key]
        gaps, duplicates = holes(segments)
        # What the host has already costs no decryption; its reason would only look like a loss.
        segments = [
            replace(s, outcome=DUPLICATE) if i in duplicates and s.outcome != "decrypted" else s
            for i, s in enumerate(segments)
        ]
        used |= {s.outcome for s in segments}
        grid = part.add_gridspec(
            2, 2, height_ratios=(12, 1), width_ratios=(40, 1.5), hspace=0.02, wspace=0.01
        )
        main = part.add_subplot(grid[0, 0])
        strip = part.add_subplot(grid[1, 0], sharex=main)
        side = part.add_subplot(grid[0, 1], sharey=main)
        unit, name = _unit(max(s.offset + s.length for s in segments))
        _segments(main, segments, unit, 3.0 if len(segments) < 1500 else 1.2)
        for opened, filled, start, end in gaps:
            main.add_patch(
                Rectangle(
                    (opened, start / unit),
                    max(filled - opened, 1),
                    (end - start) / unit,
                    facecolor="#D55E0022",
                    edgecolor="#D55E00",
                    hatch="////",
                    linewidth=0.6,
                    zorder=2,
                )
            )
        kinds |= _events(
            main,
            (e for e in report["events"] if (e["connection"], e["dir"]) == (index, direction)),
            segments,
            unit,
        )
        main.autoscale_view()
        main.margins(y=0.04)
        main.set_xlim(-1, len(segments))
        main.set_ylabel(f"{direction} stream offset, {name}")
        title = _title(report["connections"][index], direction, len(duplicates))
        main.set_title(title, fontsize=10, loc="left")
        main.grid(alpha=0.25)
        main.tick_params(labelbottom=False)
        _strip(strip, segments)
        _records(side, [r for r in trace.records if (r.connection, r.direction) == key], unit)
    _legend(figure, used, kinds)
    figure.savefig(path, format=path.suffix[1:] or "png")


def _legend(figure: Any, used: set[str], kinds: set[str]) -> None:
    handles: list[Any] = [
        Patch(color=COLOURS[o], label=o.replace("_", " ")) for o in COLOURS if o in used
    ]
    handles.append(Patch(facecolor="#D55E0022", edgecolor="#D55E00", hatch="////", label="hole"))
    handles += [
        Line2D([], [], linestyle="", marker=marker, color=colour, markersize=9, label=label)
        for kind, (marker, colour, label) in EVENTS.items()
        if kind in kinds
    ]
    handles += [Patch(color=colour, label=f"record {name}") for name, colour in RECORDS.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=6, fontsize=9, frameon=False)
