# SPDX-License-Identifier: Apache-2.0
"""The walker's state diagram, the table beside it and the model agree."""

import random
import re
from dataclasses import fields
from pathlib import Path

from sealane.driver.model.walker.commands import answer, desync, hint, rekey
from sealane.driver.model.walker.row import Row, TrackerState, new_row
from sealane.driver.model.walker.walk import Walk
from sealane.hdl.abi.commands import Option
from sealane.hdl.abi.config import VERSION_TLS13, Config
from sealane.scripts.docs import state_figure

PAGE = Path(__file__).resolve().parents[2] / "docs" / "theory-of-operation.md"
CONFIG = Config(scan_limit=200, bad_header_limit=2)
START = 1000

DRAWN = set(state_figure.EDGES) | {(state, TrackerState.START) for state in state_figure.ARMED}


class WatchedRow(Row):
    """A row that notes every change of its state in `changes`."""

    changes = set()

    def __setattr__(self, name, value):
        before = self.__dict__.get(name)
        if name == "state" and before is not None and before is not value:
            self.changes.add((before, value))
        super().__setattr__(name, value)


def watched_row(options):
    row = new_row(CONFIG, 0, 0, VERSION_TLS13, START, 0, options)
    return WatchedRow(**{field.name: getattr(row, field.name) for field in fields(row)})


def header(length):
    return bytes((23, 3, 3)) + length.to_bytes(2, "big")


def stream(rng):
    """Records, some with text that reads as headers, and now and then a byte of a header wrong."""
    content = bytearray()
    for _ in range(30):
        length = rng.randrange(17, 200)
        text = rng.randbytes(length)
        if rng.random() < 0.3:
            text = (header(rng.randrange(17, 60)) * length)[:length]
        first = header(length) if rng.random() < 0.9 else b"\0" + header(length)[1:]
        content += first + text
    return bytes(content)


def disturb(rng, row):
    """A command, or news of a bad tag."""
    where = (row.high + rng.randrange(100)) % 2**32
    match rng.randrange(6):
        case 0:
            answer(CONFIG, row, row.candidate_seq, 5, refused=True)
        case 1:
            answer(CONFIG, row, row.candidate_seq, 5, refused=False)
        case 2:
            hint(row, where, 7)
        case 3:
            rekey(CONFIG, row, 0, 0, where, rng.choice((0, 2**60)))
        case 4:
            desync(row)


def changes_of_the_model():
    WatchedRow.changes = set()
    for seed in range(300):
        rng = random.Random(seed)
        content = stream(rng)
        row = watched_row(rng.choice((Option.NONE, Option.ONE_BIT)))
        at = 0
        late = []
        while at < len(content):
            end = min(len(content), at + rng.randrange(1, 150))
            if rng.random() < 0.1:
                late.append((at, end))
            else:
                Walk(CONFIG, row, START + at, content[at:end]).run()
            if late and rng.random() < 0.1:
                low, high = late.pop(0)
                # The retransmission may bring more than was lost.
                high = rng.choice((high, min(len(content), max(end, high) + 50)))
                Walk(CONFIG, row, START + low, content[low:high]).run()
            if rng.random() < 0.05:
                disturb(rng, row)
            at = end
    return WatchedRow.changes


def test_the_figure_shows_the_changes_that_the_model_makes():
    assert changes_of_the_model() == DRAWN


def test_the_table_has_the_edges_of_the_figure():
    listed = set()
    for source, target in re.findall(
        r"^\| ([A-Z_`, ]+) \| `([A-Z_]+)` \| ", PAGE.read_text(), re.M
    ):
        states = map(TrackerState.__getitem__, re.findall(r"\w+", source))
        listed |= {(state, TrackerState[target]) for state in states}
    assert listed == DRAWN
