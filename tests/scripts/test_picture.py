# SPDX-License-Identifier: Apache-2.0
"""The picture of a replay: what it is computed from, and that any replay can be drawn."""

import pytest

from sealane.driver.model.device import ModelTransport
from sealane.driver.replay.trace import SegmentTrace, Trace
from sealane.hdl.abi.meta import Reason
from sealane.scripts.replay.picture import COLOURS, MAX_PANELS, draw, holes
from tests.support.replays import replay_named


def segments(*ranges):
    """Segments by (start, end), in the order of arrival."""
    return [
        SegmentTrace(10 + i, i / 10, 0, "c2s", start, end - start, "decrypted")
        for i, (start, end) in enumerate(ranges)
    ]


@pytest.mark.parametrize(
    ("ranges", "gaps", "duplicates"),
    [
        ([(0, 10), (10, 20)], [], set()),
        ([(0, 10), (20, 30), (10, 20)], [(1, 2, 10, 20)], set()),
        (
            [(0, 10), (30, 40), (15, 20), (10, 15), (20, 30)],
            [(1, 2, 15, 20), (1, 3, 10, 15), (1, 4, 20, 30)],
            set(),
        ),
        ([(0, 10), (20, 30)], [(1, 1, 10, 20)], set()),
        ([(0, 10), (0, 10), (5, 12), (2, 9)], [], {1, 3}),
        ([(5, 10), (0, 5), (0, 3)], [(0, 1, 0, 5)], {2}),
    ],
)
def test_holes_and_duplicates(ranges, gaps, duplicates):
    found, repeated = holes(segments(*ranges))
    assert (sorted(found), repeated) == (sorted(gaps), duplicates)


def test_every_reason_has_a_colour():
    assert {r.name.lower() for r in Reason if r} <= set(COLOURS)


def test_nothing_and_too_much_can_be_drawn(tmp_path):
    empty = {"capture": "empty", "engine": "model", "events": [], "connections": []}
    draw(empty, Trace(), tmp_path / "empty.png")
    result = replay_named(ModelTransport(), "c37_tls13_keyupdate_corked")
    many = result.report | {"connections": result.report["connections"] * MAX_PANELS}
    trace = Trace(
        [
            SegmentTrace(s.packet, s.time, i, s.direction, s.offset, s.length, s.outcome)
            for i in range(MAX_PANELS)
            for s in result.trace.segments[:20]
        ]
    )
    draw(many, trace, tmp_path / "many.png")
    for name in ("empty", "many"):
        assert (tmp_path / f"{name}.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
