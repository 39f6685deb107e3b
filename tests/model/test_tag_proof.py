# SPDX-License-Identifier: Apache-2.0
"""The third proof: a candidate record whose tag verifies under its guessed number.

A good tag is not proof of position: rule H makes marks after it sound. The tests have honest
traffic, in which the tag must prove the position early. They also have a peer and an attacker who
lead the card astray.
"""

import pytest

from sealane.driver.ktls.rx.events import How
from sealane.driver.ktls.rx.offload import KtlsRx
from sealane.hdl.abi.commands import Option
from sealane.hdl.abi.config import VERSION_TLS12, VERSION_TLS13, header_bytes
from sealane.hdl.abi.events import EventKind
from sealane.hdl.abi.meta import ProvenBy, Reason
from tests.support.card import Card, model_device
from tests.support.flow_frames import FLOW, frame
from tests.support.marking_device import Stream
from tests.support.scenarios.man_in_the_middle import Victim

VERSIONS = (VERSION_TLS12, VERSION_TLS13)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_good_tag_proves_the_position(version):
    card = Card(version, [100, 300, 300, 300, 300, 300])
    records = card.records
    edge = card.lose(1, 1)
    first = card.send(edge, records[3].offset + 20)  # record 2 from its header to its tag
    assert first.meta.reason == Reason.AWAITING_PROOF
    assert card.proofs() == [(ProvenBy.TAG, 4)]
    assert card.send(records[3].offset + 20, records[4].offset + 20).marked
    whole = card.send(records[4].offset + 20, records[5].offset)
    assert whole.marked and whole.meta.last_completes and whole.meta.last_number == 4


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("cuts", [3, 60, 400])
def test_the_record_may_come_in_any_pieces(version, cuts):
    card = Card(version, [100, 300, 300, 300, 300])
    at = card.lose(1, 1)
    behind = card.records[3].offset  # of the record that is probed
    while at < behind:
        at += cuts
        card.send(at - cuts, at)
    also_passed = at - behind >= header_bytes(version)  # the next header, in the same packet
    assert card.proofs() == [(ProvenBy.TAG, 4 if also_passed else 3)]
    card.send(at, card.records[4].offset)
    assert card.send(card.records[4].offset, card.records[4].end).marked


def test_a_lost_piece_ends_the_trial_and_the_next_record_is_tried():
    card = Card(VERSION_TLS13, [100, 300, 300, 300, 300, 300])
    records = card.records
    edge = card.lose(1, 1)
    card.send(edge, records[2].offset + 100)
    card.send(records[2].offset + 150, records[3].offset + 10)
    assert not card.proofs()
    card.send(records[3].offset + 10, records[4].offset + 10)
    assert card.proofs() == [(ProvenBy.TAG, 5)]


@pytest.mark.parametrize("lost", [1, 2, 3, 4])
def test_each_bad_tag_guesses_one_more_lost_record(lost):
    card = Card(VERSION_TLS13, [100] + 12 * [300])
    records = card.records
    at = card.lose(1, lost)
    tried = 0
    while not (proofs := card.proofs()):
        tried += 1
        end = records[lost + tried].end + 10
        card.send(at, end)
        at = end
    assert tried == lost
    assert proofs == [(ProvenBy.TAG, lost + tried + 2)]


def test_full_records_are_counted_by_their_size():
    card = Card(VERSION_TLS13, [100] + 8 * [16384], max_frame=16000)
    records = card.records
    at = card.lose(1, 4)
    while at < records[5].end + 10:
        card.send(at, at + 1400)
        at += 1400
    assert card.proofs() == [(ProvenBy.TAG, 7)]


def test_the_guess_is_given_up_at_the_limit():
    card = Card(VERSION_TLS13, [100] + 14 * [300], tag_proof_limit=3)
    at = card.lose(1, 4)
    card_end = card.records[-1].offset
    while at < card_end:
        card.send(at, min(at + 500, card_end))
        at += 500
    assert not card.proofs()
    device = card.device
    device.tls_dev_resync(card.handle, (card.stream.seq + card.records[5].offset) % 2**32, 5)
    assert card.proofs() == [(ProvenBy.SOFTWARE, 14)]


def test_without_the_option_nothing_is_tried():
    card = Card(VERSION_TLS13, [100, 300, 300, 300], options=Option.NONE)
    card.send(card.lose(1, 1), card.records[3].offset + 20)
    assert not card.proofs()


def test_nothing_is_tried_where_a_bad_tag_ended_the_proven_chain():
    card = Card(VERSION_TLS13, [100, 300, 300, 300, 300])
    forged = bytearray(card.stream.wire[: card.records[1].offset])
    forged[50] ^= 1
    card.device.receive([frame(card.stream.seq, bytes(forged))])
    card.send(card.records[1].offset, card.records[4].offset + 20)
    assert not card.proofs()


class Host(Victim):
    """Card with the third proof, TCP, and a host that applies rule H."""

    def __init__(self, stream: Stream) -> None:
        super().__init__(stream, model_device())
        self.device.tls_dev_del(self.rx.handle)
        handle = self.device.tls_dev_add(FLOW, stream.keys(0), stream.seq, options=Option.TAG_PROOF)
        self.rx = KtlsRx(stream.keys(0), stream.seq, handle=handle)
        self.seen = []  # events of the device
        device_event = self.rx.device_event

        def note(event):
            self.seen.append(event)
            return device_event(event)

        self.rx.device_event = note

    def send(self, low, high, card=True, host=True):
        self.packet(low, self.stream.wire[low:high], card, host)

    @property
    def app_data(self):
        return b"".join(record.plaintext for record in self.records)


def embed(stream, inner):
    """A record whose ciphertext contains `inner`. The peer has the key and chooses its content."""
    zeros = Stream(stream.version, stream.seq, stream.wire, epoch=stream.epoch)
    zeros.number = stream.number
    keystream = zeros.add(bytes(400 + len(inner) + 40)).wire
    body = header_bytes(stream.version)
    content = bytearray(400 + len(inner) + 40)
    for i, byte in enumerate(inner):
        content[400 + i] = byte ^ keystream[body + 400 + i]
    record = stream.add(bytes(content))
    assert record.wire[body + 400 :].startswith(inner)
    return record, record.offset + body + 400


@pytest.mark.parametrize("version", VERSIONS)
def test_a_peer_that_embeds_a_sealed_record_gains_nothing(version):
    """The embedded record has the number that the card guesses and a good tag.

    The card follows it. Nothing of it is believed, and everything that the peer sent arrives.
    """
    stream = Stream(version)
    stream.add(bytes(100))
    lost = stream.number
    later = Stream(version)  # sealed by the peer in advance, under the guessed number
    later.number = lost + 1
    inner = later.add(b"evil" * 20).wire
    # After it two headers: one that passes with the proof, one that is opened later.
    chain = inner + b"\x17\3\3\0\x3c" + bytes(60) + b"\x17\3\3\2\x58" + bytes(8)
    record, at = embed(stream, chain)
    for i in range(6):
        stream.add(bytes([i]) * 300)
    host = Host(stream)
    start = record.offset
    host.send(0, start - 5)
    host.send(at - 20, at + len(inner) + 20)  # the true header is lost
    proofs = [event for event in host.seen if event.kind == EventKind.RESUMED]
    assert [event.proven_by for event in proofs] == [ProvenBy.TAG]  # led astray
    host.send(at + len(inner) + 20, at + len(inner) + 65)
    host.send(at + len(inner) + 65, record.end + 200)
    assert host.packets[-1].marked  # and it marks
    host.send(start - 5, at - 20)
    low = record.end + 200
    while low < len(stream.wire):
        host.send(low, min(low + 250, len(stream.wire)))
        low += 250
    assert host.app_data == stream.app_data
    assert host.rx.counters.marks_undone


@pytest.mark.parametrize("version", VERSIONS)
def test_a_replayed_record_at_another_position_gains_nothing(version):
    """An attacker without keys shows the card alone a record of the connection out of place.

    Its number is the one that is guessed.
    """
    stream = Stream(version)
    for i in range(10):
        stream.add(bytes([i]) * 300)
    records = stream.records
    host = Host(stream)
    host.send(0, records[1].offset - 10)
    shifted = records[1].offset + 77  # as if one record of 77 bytes less had been lost
    wire = stream.wire[records[2].offset : records[3].offset + 100]  # records 2, and 3 in part
    host.packet(shifted, wire, card=True, host=False)
    assert [e.proven_by for e in host.seen if e.kind == EventKind.RESUMED] == [ProvenBy.TAG]
    at = shifted + len(wire)
    host.packet(at, stream.wire[records[3].offset + 100 : records[3].end + 40], True, False)
    for low in range(records[1].offset - 10, len(stream.wire), 200):
        host.send(low, min(low + 200, len(stream.wire)))
    assert host.app_data == stream.app_data
    assert all(record.how is not How.FULL for record in host.records[1:4])


def test_a_sealed_record_cannot_be_marked_twice():
    """R2 holds after the third proof too: the number of a marked record stays closed."""
    stream = Stream(VERSION_TLS13)
    for i in range(8):
        stream.add(bytes([i]) * 300)
    records = stream.records
    host = Host(stream)
    host.send(0, records[3].offset + 60)
    marked = host.packets[-1]
    assert marked.marked and marked.meta.last_number == 3
    host.send(records[4].offset + 60, records[6].offset + 30)  # the header of record 4 is lost
    assert [e.proven_by for e in host.seen if e.kind == EventKind.RESUMED] == [ProvenBy.TAG]
    host.send(records[3].offset + 60, records[4].offset + 60)
    assert host.packets[-1].meta.reason == Reason.NOT_OPEN
    host.send(records[6].offset + 30, records[7].end)
    assert host.packets[-1].marked
    assert host.app_data == stream.app_data
