# SPDX-License-Identifier: Apache-2.0
"""The figures beside the worked examples of the theory of operation, as SVG.

Drawn from the examples themselves: places, weights, marks and events are theirs. The ground is
white so that the figures read the same on a light and a dark page.
"""

from __future__ import annotations

from collections.abc import Callable
from html import escape

from sealane.hdl.abi.config import HEADER_BYTES, TAG_BYTES
from sealane.hdl.abi.events import EventKind

from . import worked_gcm, worked_loss

WIDTH = 960
# Okabe and Ito's palette: fill and outline.
GREEN, ORANGE, BLUE, GREY = (
    ("#D9F0E8", "#009E73"),
    ("#FCE9D4", "#D55E00"),
    ("#DFEBF7", "#0072B2"),
    ("#EEEEEE", "#666666"),
)
INK = "#222222"
Colours = tuple[str, str]


def name(colour: str) -> str:
    """What the arrow head of that colour is called."""
    return "head" + colour[1:]


class Drawing:
    """Shapes on a white ground, `WIDTH` units wide and `height` high."""

    def __init__(self, height: int) -> None:
        self._height = height
        self._shapes: list[str] = []

    def box(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        colours: Colours,
        dashed: bool = False,
    ) -> None:
        """A filled box."""
        dash = ' stroke-dasharray="5 3"' if dashed else ""
        self._shapes.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" '
            f'fill="{colours[0]}" stroke="{colours[1]}" stroke-width="1.5"{dash}/>'
        )

    def text(
        self,
        x: float,
        y: float,
        what: str,
        size: int = 14,
        anchor: str = "middle",
        bold: bool = False,
        colour: str = INK,
    ) -> None:
        """A line of text; y is its base line."""
        weight = ' font-weight="bold"' if bold else ""
        self._shapes.append(
            f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" '
            f'fill="{colour}"{weight}>{escape(what)}</text>'
        )

    def path(self, steps: str, colour: str, arrow: bool = True, dashed: bool = False) -> None:
        """A line, with a head at its end if it is an arrow."""
        dash = ' stroke-dasharray="6 4"' if dashed else ""
        head = f' marker-end="url(#{name(colour)})"' if arrow else ""
        self._shapes.append(
            f'<path d="{steps}" fill="none" stroke="{colour}" stroke-width="2"{dash}{head}/>'
        )

    @staticmethod
    def _marker(colour: str) -> str:
        return (
            f'<marker id="{name(colour)}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="6" '
            f'markerHeight="6" orient="auto"><path d="M0 0L8 4L0 8z" fill="{colour}"/></marker>'
        )

    def svg(self) -> str:
        """The file."""
        return "\n".join(
            (
                f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {self._height}" '
                'font-family="sans-serif">',
                "<!-- SPDX-License-Identifier: Apache-2.0 -->",
                "<!-- Drawn by scripts/docs/worked_figure.py. -->",
                "<defs>",
                *map(self._marker, (INK, *(outline for _, outline in (GREEN, ORANGE, BLUE, GREY)))),
                "</defs>",
                f'<rect width="{WIDTH}" height="{self._height}" fill="white"/>',
                *self._shapes,
                "</svg>",
                "",
            )
        )


def weights() -> str:
    """A record over three packets, each weighted to the record's end."""
    example, drawing = worked_gcm.Example(), Drawing(400)
    left, unit = 40.0, 12.8

    def at(offset: int) -> float:
        """Where the byte at an offset behind the header is drawn."""
        return left + (HEADER_BYTES + offset) * unit

    text, end = len(worked_gcm.TEXT), at(len(worked_gcm.TEXT) + TAG_BYTES)
    drawing.text(left, 26, "One record; its header, with its length, is known", 15, "start", True)
    drawing.box(left, 42, at(0) - left, 34, GREY)
    drawing.text((left + at(0)) / 2, 64, "header")
    for block in range(example.blocks):
        low, high = 16 * block, min(text, 16 * (block + 1))
        drawing.box(at(low), 42, at(high) - at(low), 34, BLUE)
        drawing.text((at(low) + at(high)) / 2, 64, f"C{block + 1}")
        drawing.text(
            (at(low) + at(high)) / 2,
            94,
            "weight " + worked_gcm.power(example.blocks - block + 1),
            12,
        )
    drawing.box(at(text), 42, end - at(text), 34, GREY)
    drawing.text((at(text) + end) / 2, 64, "tag")
    drawing.text((at(text) + end) / 2, 94, "weight 1", 12)
    drawing.path(f"M{at(text):.1f} 172V352", BLUE[1], arrow=False, dashed=True)
    drawing.text(
        at(text), 368, "end of the text: all sums are weighted to here", 12, colour=BLUE[1]
    )
    for row, (packet, span) in enumerate(
        zip(worked_gcm.ORDER, example.spans(worked_gcm.ORDER), strict=True)
    ):
        y = 116 + 76 * row
        low, high = worked_gcm.CUTS[packet - 1 : packet + 1]
        stop = span.text_offset + span.text_bytes
        last = -(-stop // 16)
        left_over = example.blocks - last
        drawing.box(at(low), y, at(high) - at(low), 28, GREEN)
        drawing.text((at(low) + at(high)) / 2, y + 19, f"packet {packet}")
        order = ("first", "second", "third")[row]
        drawing.text(left - 20, y + 19, order, 12, "start")
        if left_over:
            drawing.path(f"M{at(high):.1f} {y + 40}H{at(text) - 2:.1f}", GREEN[1])
            own = f"with A*{worked_gcm.power(last + 2)}, " if low == 0 else ""
            drawing.text(
                at(text) - 10,
                y + 58,
                f"e = {left_over}: the sum, {own}times {worked_gcm.power(left_over)}",
                12,
                "end",
            )
        else:
            drawing.text((at(low) + at(high)) / 2, y + 46, "e = 0; with L*H, E(J0) and the tag", 12)
        drawing.path(f"M{end + 8:.1f} {y + 14}H{end + 40:.1f}", INK)
        drawing.text(end + 48, y + 19, "into X", 13, "start")
    drawing.text(end + 48, 368, "X = 0", 15, "start", True, GREEN[1])
    return drawing.svg()


def _arcs(
    drawing: Drawing,
    x: Callable[[int], float],
    y: float,
    stops: list[int],
    colour: str,
    dashed: bool = False,
) -> None:
    for low, high in zip(stops, stops[1:], strict=False):
        middle = (x(low) + x(high)) / 2
        drawing.path(
            f"M{x(low):.1f} {y}Q{middle:.1f} {y + 50} {x(high):.1f} {y}", colour, True, dashed
        )


def chains() -> str:
    """The proven chain and the candidate's, and where they meet."""
    outcome, drawing = worked_loss.outcome(), Drawing(420)
    size, seq = worked_loss.RECORD_BYTES, worked_loss.SEQ
    end = seq + size * worked_loss.RECORDS

    def x(number: int) -> float:
        """Where a sequence number is drawn."""
        return 40 + (number - seq) * 880 / (end - seq)

    drawing.text(40, 26, "Records on the wire, by TCP sequence number", 15, "start", True)
    for number, how in enumerate(outcome.hows):
        low = seq + size * number
        drawing.box(x(low), 42, x(low + size) - x(low), 34, BLUE)
        drawing.box(x(low), 42, 7, 34, (BLUE[1], BLUE[1]))
        drawing.text((x(low) + x(low + size)) / 2, 64, f"record {number}")
        drawing.text(x(low), 92, f"{low}", 12)
        drawing.text((x(low) + x(low + size)) / 2, 92, f"in the end: {how}", 12)
    drawing.text(
        40,
        126,
        "Packets: green marked, orange untouched; number 2 comes behind number 5",
        15,
        "start",
        True,
    )
    for arrival in outcome.arrivals:
        marked, late = arrival.passed.marked, arrival.packet == worked_loss.LATE
        drawing.box(
            x(arrival.low),
            140,
            x(arrival.high) - x(arrival.low),
            34,
            GREEN if marked else ORANGE,
            late,
        )
        drawing.text(
            (x(arrival.low) + x(arrival.high)) / 2,
            162,
            f"{arrival.packet}" + (", late" if late else ""),
        )
    events = [event for arrival in outcome.arrivals for event in arrival.events]
    request = next(e for e in events if e.kind == EventKind.RESYNC_REQUEST)
    resumed = next(e for e in events if e.kind == EventKind.RESUMED)
    y = 226
    drawing.text(40, 206, "proven chain", 14, "start", True, GREEN[1])
    _arcs(drawing, x, y, [seq, request.lost_at], GREEN[1])
    _arcs(drawing, x, y, [request.lost_at, resumed.candidate_seq], GREEN[1], True)
    drawing.text(x(request.lost_at), y + 42, f"lost at {request.lost_at}", 12)
    drawing.text(
        (x(request.lost_at) + x(resumed.candidate_seq)) / 2,
        y - 8,
        "walks on when packet 2 comes",
        12,
        colour=GREEN[1],
    )
    drawing.text(
        x(resumed.candidate_seq) + 40,
        206,
        "candidate chain, found in packet 4",
        14,
        "start",
        True,
        ORANGE[1],
    )
    _arcs(drawing, x, y, [resumed.candidate_seq, resumed.resumed_at], ORANGE[1])
    _arcs(drawing, x, y, [resumed.resumed_at, end], GREEN[1])
    drawing.path(f"M{x(resumed.candidate_seq):.1f} {y + 6}V330", INK, arrow=False, dashed=True)
    meet = x(resumed.candidate_seq)
    number = resumed.number - (resumed.resumed_at - resumed.candidate_seq) // size
    drawing.text(
        meet,
        350,
        f"both chains have a header at {resumed.candidate_seq}: proven by the walk",
        14,
        bold=True,
    )
    drawing.text(
        meet,
        372,
        f"It is record {number}; the candidate's count makes the record at "
        f"{resumed.resumed_at} number {resumed.number}.",
        13,
    )
    drawing.text(meet, 392, "Records are opened again from there.", 13)
    drawing.path(f"M{x(resumed.resumed_at):.1f} {y + 6}V300", INK, arrow=False, dashed=True)
    drawing.text(x(resumed.resumed_at), 316, f"resumed at {resumed.resumed_at}", 12)
    return drawing.svg()


FIGURES: dict[str, Callable[[], str]] = {"weights.svg": weights, "chains.svg": chains}
