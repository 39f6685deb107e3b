# SPDX-License-Identifier: Apache-2.0
"""Marks after records without a verdict so far, packet by packet."""

import pytest

from sealane.hdl.abi.commands import Option
from sealane.hdl.abi.config import VERSION_TLS13
from sealane.hdl.abi.events import EventKind
from sealane.hdl.abi.meta import Reason
from tests.support import card
from tests.support.sealed_streams import KEY_UPDATE


class Card(card.Card):
    """A model device with one flow over records of 1,000 bytes of text (1,022 on the wire)."""

    def __init__(self, options=Option.MARK_REST, **parameters):
        super().__init__(VERSION_TLS13, [1000] * 12, options, **parameters)

    def send(self, low, high):
        """Reason of the packet with stream bytes [low, high)."""
        return super().send(low, high).meta.reason

    def at(self, low):
        return (self.stream.seq + low) % 2**32


def test_one_bit_flows_are_not_marked_behind_a_hole():
    for options, expected in ((Option.NONE, Reason.NONE), (Option.ONE_BIT, Reason.HELD)):
        card = Card(options | Option.MARK_REST)
        assert card.send(0, 500) == Reason.NONE
        assert card.send(600, 1000) == Reason.NONE  # the same record
        assert card.send(1000, 1100) == expected  # ends after the record that has a hole
        assert card.send(500, 600) == Reason.NONE  # completes it: the rest is the next record's
        assert card.send(1100, 1500) == Reason.NONE


def test_marks_far_behind_an_open_record_are_bounded_and_counted():
    card = Card(ahead_limit=1000)
    assert card.send(0, 500) == Reason.NONE
    assert card.send(600, 1022) == Reason.NONE
    assert card.send(1022, 2022) == Reason.NONE
    assert card.device.device_counters()["marked_ahead"] == 1
    assert card.send(2022, 2100) == Reason.HELD
    assert card.send(500, 600) == Reason.NONE
    assert card.send(2100, 2200) == Reason.NONE
    assert card.device.device_counters()["marked_ahead"] == 1


def _with_short_record():
    card = Card(record_slots=1)
    stream = card.stream
    short = stream.add(KEY_UPDATE, 22)
    for i in range(4):
        stream.add(bytes([i]) * 1000)
    return card, short


def test_a_short_record_that_is_evicted_holds_marks_until_software_has_read_it():
    card, short = _with_short_record()
    assert card.send(0, 6000) == Reason.NONE
    assert card.send(6000, short.offset + 10) == Reason.NONE
    assert card.send(short.offset + 12, short.end + 500) == Reason.HELD  # evicts it
    assert card.send(short.end + 500, short.end + 600) == Reason.HELD
    end = card.stream.records[-4].end
    card.device.resync_hint(card.handle, card.at(short.offset), 12)  # read up to it only
    assert card.send(short.end + 600, short.end + 700) == Reason.HELD
    card.device.resync_hint(card.handle, card.at(short.end), 13)
    assert card.send(short.end + 700, end) == Reason.NONE


@pytest.mark.parametrize("found_first", [True, False])
def test_the_rest_of_the_record_that_goes_on_when_a_position_is_proven(found_first):
    """The packet that ends it may be marked, so the next record is whole. It gets no verdict."""
    card = Card()
    records = card.stream.records
    assert card.send(0, 1000) == Reason.NONE
    # The header of record 1 is lost. Record 2's is found and followed into record 4.
    assert card.send(1100, 4200) == Reason.AWAITING_PROOF
    if found_first:
        assert card.send(1000, 1100) == Reason.NONE  # proven by the walk
    else:
        card.device.tls_dev_resync(card.handle, card.at(records[2].offset), 2)
    events = [event.kind for event in card.device.events()]
    assert events == [EventKind.RESYNC_REQUEST, EventKind.RESUMED]
    before = card.device.device_counters()["records_verified"]
    assert card.send(4200, records[4].end + 100) == Reason.NONE
    assert card.device.device_counters()["records_verified"] == before
    assert card.send(records[4].end + 100, records[5].end) == Reason.NONE
    assert card.device.device_counters()["records_verified"] == before + 1


def test_a_record_of_which_only_the_header_passed_unproven_gets_its_verdict():
    card = Card()
    records = card.stream.records
    assert card.send(0, 1000) == Reason.NONE
    assert card.send(1100, records[3].offset + 5) == Reason.AWAITING_PROOF
    assert card.send(1000, 1100) == Reason.NONE
    before = card.device.device_counters()["records_verified"]
    assert card.send(records[3].offset + 5, records[3].end) == Reason.NONE
    assert card.device.device_counters()["records_verified"] == before + 1


def test_a_packet_inside_a_record_that_is_mixed_already_is_left_unmarked():
    """Software would only have to encrypt it again.

    The packet in which the next record begins is marked. So is a packet after mere repetitions,
    since TCP drops those.
    """
    for options, expected in ((Option.NONE, Reason.MIXED), (Option.MARK_REST, Reason.NONE)):
        card = Card(options)
        assert card.send(0, 300) == Reason.NONE
        assert card.send(0, 300) == Reason.SEEN_BYTES  # nothing new in it
        assert card.send(300, 400) == Reason.NONE
        assert card.send(350, 500) == Reason.SEEN_BYTES  # new bytes in it pass without the mark
        assert card.send(500, 700) == expected
        assert card.send(700, 1100) == Reason.NONE  # the next record begins here
        assert card.send(1100, 1500) == Reason.NONE
        assert card.device.device_counters()["records_verified"] == 1


def test_a_hint_in_sync_closes_the_records_that_software_has_read():
    """A short record whose missing bytes passed unseen would hold marks back for good."""
    card = Card(Option.NONE)
    stream = card.stream
    short = stream.add(KEY_UPDATE, 22)
    for i in range(4):
        stream.add(bytes([i]) * 1000)
    assert card.send(0, 6000) == Reason.NONE
    assert card.send(6000, short.offset + 10) == Reason.NONE
    assert card.send(short.offset + 12, short.end + 500) == Reason.HELD
    card.device.resync_hint(card.handle, card.at(short.offset), 12)  # read up to it only
    assert card.send(short.end + 500, short.end + 600) == Reason.HELD
    card.device.resync_hint(card.handle, card.at(short.end), 13)
    assert card.send(short.end + 600, short.end + 1100) == Reason.NONE


def test_a_record_of_which_bytes_passed_unfed_is_closed_and_holds_no_marks():
    """Its two missing bytes came while the position was not proven."""
    card = Card(Option.NONE)
    records = card.stream.records
    assert card.send(0, 1000) == Reason.NONE
    # Record 1's header is lost, and the candidate chain passes most of record 1.
    assert card.send(1100, 4200) == Reason.AWAITING_PROOF
    assert card.send(1000, 1100) == Reason.NONE  # the walk opens record 1 and arrives
    assert [event.kind for event in card.device.events()][-1] == EventKind.RESUMED
    assert card.send(4200, records[4].end + 100) == Reason.NONE
    assert card.send(1100, 2000) == Reason.NOT_OPEN
    assert card.send(records[4].end + 100, records[6].end) == Reason.NONE
    assert card.device.device_counters()["evicted"] == 0
