# SPDX-License-Identifier: Apache-2.0
"""The state diagram of the receive walker, as SVG.

`tests/scripts/test_state_figure.py` compares `EDGES` with the table beside the figure and with the
changes of state that the model of the walker makes.
"""

from __future__ import annotations

from sealane.driver.model.walker.row import TrackerState

from .worked_figure import BLUE, GREEN, GREY, INK, ORANGE, Colours, Drawing

WIDTH, HEIGHT = 150.0, 56.0
PLACES: dict[TrackerState, tuple[float, float, Colours, str]] = {
    TrackerState.START: (130, 70, BLUE, "position given"),
    TrackerState.TRACKING: (430, 70, GREEN, "next header known"),
    TrackerState.SEARCHING: (430, 280, ORANGE, "scanning for a header"),
    TrackerState.CONFIRMING: (780, 280, ORANGE, "candidate unproven"),
    TrackerState.GIVEN_UP: (430, 460, GREY, "no scan"),
}
# A line in path notation, its label, and where the label begins. The label is one line or two.
EDGES: dict[tuple[TrackerState, TrackerState], tuple[str, tuple[str, ...], float, float]] = {
    (TrackerState.START, TrackerState.TRACKING): ("M280 86H428", ("first header read",), 300, 78),
    (TrackerState.START, TrackerState.SEARCHING): ("M205 126V300H428", ("same causes",), 216, 318),
    (TrackerState.TRACKING, TrackerState.SEARCHING): (
        "M530 126V278",
        ("header in a hole,", "header not allowed,", "or bad tag"),
        540,
        186,
    ),
    (TrackerState.SEARCHING, TrackerState.TRACKING): (
        "M480 280V128",
        ("proven walk", "continues"),
        400,
        200,
    ),
    (TrackerState.SEARCHING, TrackerState.CONFIRMING): (
        "M580 296H778",
        ("candidate found:", "RESYNC_REQUEST"),
        600,
        272,
    ),
    (TrackerState.CONFIRMING, TrackerState.SEARCHING): (
        "M780 320H582",
        ("mismatch, gap, or refused",),
        600,
        340,
    ),
    (TrackerState.CONFIRMING, TrackerState.TRACKING): (
        "M855 280V98H582",
        ("proven by software, walk or tag: RESUMED",),
        590,
        88,
    ),
    (TrackerState.SEARCHING, TrackerState.GIVEN_UP): (
        "M480 336V458",
        ("limit reached:", "GIVEN_UP"),
        380,
        390,
    ),
    (TrackerState.GIVEN_UP, TrackerState.SEARCHING): (
        "M530 460V338",
        ("header on the proven", "chain not allowed"),
        540,
        390,
    ),
    (TrackerState.GIVEN_UP, TrackerState.TRACKING): (
        "M430 488H320V110H428",
        ("proven walk", "continues"),
        240,
        440,
    ),
}
# Every other state can be armed again: RESYNC_HINT or REKEY.
ARMED = tuple(state for state in TrackerState if state is not TrackerState.START)


def states() -> str:
    """The walker's states and the events between them."""
    drawing = Drawing(540, "state_figure.py")
    drawing.path("M30 98H128", INK)
    drawing.text(30, 90, "CONTEXT_ADD", 12, "start")
    drawing.path("M205 30V68", INK, dashed=True)
    drawing.text(216, 40, "from any state: RESYNC_HINT or REKEY arms the flow", 12, "start")
    for (_, target), (steps, label, x, y) in EDGES.items():
        colour = PLACES[target][2][1]
        drawing.path(steps, colour)
        for row, part in enumerate(label):
            drawing.text(x, y + 16 * row, part, 12, "start")
    for state, (x, y, colours, meaning) in PLACES.items():
        drawing.box(x, y, WIDTH, HEIGHT, colours)
        drawing.text(x + WIDTH / 2, y + 24, state.name, 15, bold=True)
        drawing.text(x + WIDTH / 2, y + 43, meaning, 12)
    return drawing.svg()
