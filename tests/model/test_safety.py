# SPDX-License-Identifier: Apache-2.0
"""Attacks on single safety rules, each of which once succeeded against this design."""

import pytest

from sealane.driver.model.walker.commands import answer, hint
from sealane.driver.model.walker.row import Row, TrackerState, new_row
from sealane.driver.model.walker.walk import Walk
from sealane.hdl.abi.config import VERSION_TLS13, Config
from sealane.hdl.abi.meta import Reason
from sealane.hdl.common.tx_layouts import tag_depth
from sealane.hdl.receive import TEXT_SPANS, text_spans
from tests.support.card import model_device
from tests.support.scenarios.safety import (  # noqa: F401
    test_a_mark_of_256_generations_ago_is_not_of_this_generation,
    test_a_park_is_not_ended_by_the_go_on_of_an_earlier_record,
    test_header_bytes_of_a_closed_record_are_not_marked,
    test_marks_end_at_the_lowest_park,
    test_the_last_record_of_a_packet_that_may_change_keys_names_the_park,
)
from tests.support.sequence_numbers import distance


@pytest.fixture
def device():
    return model_device()


CONFIG_WALK = Config(flows=4)
RECORD = b"\x17\3\3" + (16640).to_bytes(2, "big")


def march(row: Row, count: int) -> None:
    """Walks `count` records, each by its header alone, as the longest that TLS allows.

    Only the first three and the last three are walked. In between only positions and numbers of a
    row change.
    """

    def walk() -> None:
        assert Walk(CONFIG_WALK, row, row.next_record_seq, RECORD).run().reason is Reason.NONE

    for _ in range(3):
        walk()
    skipped = count - 6
    skipped_bytes = skipped * (5 + 16640)
    assert row.marked_high == row.high
    row.next_record_seq = (row.next_record_seq + skipped_bytes) % 2**32
    row.high = (row.high + skipped_bytes) % 2**32
    row.marked_high = row.high
    row.number += skipped
    row.marked_number += skipped
    row.slots = [None] * len(row.slots)
    row.holes = [None] * len(row.holes)
    for _ in range(3):
        walk()


def test_a_record_stays_closed_when_sequence_numbers_come_again():
    """R2 after 2^32 bytes that only the card has seen, 16 MB of headers. TCP still waits."""
    start, size = 100_000, 5 + 300
    row = new_row(CONFIG_WALK, 0, 0, VERSION_TLS13, start, 0)
    records = 2 * (b"\x17\3\3" + (300).to_bytes(2, "big") + bytes(300))
    # A complete record, and the forged beginning of the next, which TCP keeps, marked.
    out = Walk(CONFIG_WALK, row, start, records[: size + 200]).run()
    assert out.reason is Reason.NONE and out.last[:2] == (1, start + size)
    march(row, (2**32 - 2 * size - 50_000) // 16645)
    assert 0 < distance(start, row.next_record_seq) < 100_000
    Walk(CONFIG_WALK, row, row.next_record_seq, bytes(50)).run()
    assert row.state is TrackerState.SEARCHING
    out = Walk(CONFIG_WALK, row, start, records[:size]).run()
    assert out.event and out.event.candidate_seq == start
    event, _ = answer(CONFIG_WALK, row, start, 0, False)
    assert event and event.number == 1
    out = Walk(CONFIG_WALK, row, start + size, records[size:]).run()
    assert out.reason is Reason.NOT_OPEN and not out.spans


def test_a_resync_closes_nothing_two_gibibytes_later():
    row = new_row(CONFIG_WALK, 0, 0, VERSION_TLS13, 0, 0)
    march(row, 6)
    Walk(CONFIG_WALK, row, row.next_record_seq, bytes(50)).run()
    assert hint(row, (row.next_record_seq + 1000) % 2**32, 9)
    march(row, (2**31 + 2**20) // 16645)


def test_text_spans_of_the_longest_frame_fit_in_front_of_its_entry():
    assert text_spans(Config()) == TEXT_SPANS
    for longest in (9234, 11_300, 16_000):
        config = Config(max_frame=longest)
        # TLS 1.3 records of one text byte, after the shortest headers of Ethernet, IPv4 and TCP.
        assert text_spans(config) >= -(-(longest - 54) // 22)


def test_tags_and_clear_spans_of_the_longest_frame_fit_in_front_of_its_entry():
    for longest in (64, 9234, 11_300, 16_000):
        # A DUMP frame is payload from its first byte on. It has records of 22 bytes. The first one
        # is cut so that its tag, or the rest of its header, begins the frame.
        assert tag_depth(Config(max_frame=longest)) >= -(-longest // 22)
