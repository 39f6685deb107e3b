# SPDX-License-Identifier: Apache-2.0
"""Attacks on single rules of safety, each of which once succeeded against this design."""

from __future__ import annotations

from sealane.driver.device.descriptors import RxPacket
from sealane.driver.device.rx import Device
from sealane.driver.ktls import RecordRefused, StreamRange
from sealane.driver.model.device import ModelTransport
from sealane.driver.model.walker.commands import answer, hint
from sealane.driver.model.walker.row import Row, State, new_row
from sealane.driver.model.walker.walk import Walk
from sealane.driver.net import seq as tcp
from sealane.hdl.abi.commands import Option
from sealane.hdl.abi.config import VERSION_TLS12, VERSION_TLS13, Config
from sealane.hdl.abi.events import EventKind
from sealane.hdl.abi.meta import Reason
from sealane.hdl.common.tx_layouts import tag_depth
from sealane.hdl.receive import TEXT_SPANS, text_spans
from tests.device.test_rx import FLOW, frame
from tests.ktls.rx.test_attacks import CONFIG, Victim
from tests.support.marking_device import KEY_UPDATE, TICKET, Stream


class Flow:
    """A model device with one flow over a stream."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.device = Device(ModelTransport(CONFIG), CONFIG)
        self.handle = self.device.tls_dev_add(
            FLOW, stream.keys(0), stream.seq, options=Option.MARK_REST
        )

    def send(self, low: int, high: int) -> RxPacket:
        seq = tcp.add(self.stream.seq, low)
        return self.device.receive([frame(seq, self.stream.wire[low:high])])[0]


def test_header_bytes_of_a_closed_record_are_not_marked():
    """R2 where only a few header bytes of a record pass: they are bytes of it like all others.

    The card alone sees the true header of an application record and completes it. After a resync
    in front of it, three forged header bytes say `alert`. Marked, they would have completed an
    all-marked record with a good verdict for the same tuple, as a closure alert.
    """
    stream = Stream(VERSION_TLS12)
    stream.add(bytes(40))
    record = stream.add(b"\1\0")  # application data that reads as close_notify
    victim = Victim(stream)
    start, end = record.offset, record.end
    victim.packet(0, stream.wire[: start + 3], True, False)
    victim.packet(start + 3, stream.wire[start + 3 : end], True, True)
    assert victim.packets[0].marked and victim.packets[0].meta.last_completes
    victim.packet(end, bytes(20), True, False)  # no header: sync is lost
    victim.packet(0, stream.wire[:start], True, True)  # found, asked for, confirmed
    victim.packet(start, b"\x15\3\3", True, True)
    assert victim.packets[-1].meta.reason == Reason.NOT_OPEN
    assert [(r.content_type, r.plaintext) for r in victim.records] == [(23, bytes(40))]


CONFIG_WALK = Config(flows=4)
RECORD = b"\x17\3\3" + (16640).to_bytes(2, "big")


def march(row: Row, count: int) -> None:
    """Walks `count` records, each by its header alone, as the longest that TLS allows.

    Only the first three and the last three are walked. In between a row changes but for its
    positions and numbers no more.
    """

    def walk() -> None:
        assert Walk(CONFIG_WALK, row, row.walk, RECORD).run().reason is Reason.NONE

    for _ in range(3):
        walk()
    skipped = count - 6
    distance = skipped * (5 + 16640)
    assert row.marked_high == row.high
    row.walk, row.high = tcp.add(row.walk, distance), tcp.add(row.high, distance)
    row.marked_high = row.high
    row.number += skipped
    row.marked_number += skipped
    row.slots = [None] * len(row.slots)
    row.holes = [None] * len(row.holes)
    for _ in range(3):
        walk()


def test_a_record_stays_closed_when_sequence_numbers_come_again():
    """R2 behind 2^32 bytes that only the card has seen, 16 MB of headers: TCP still waits."""
    start, size = 100_000, 5 + 300
    row = new_row(CONFIG_WALK, 0, 0, VERSION_TLS13, start, 0)
    records = 2 * (b"\x17\3\3" + (300).to_bytes(2, "big") + bytes(300))
    # A whole record, and the forged beginning of the next, which TCP keeps, marked.
    out = Walk(CONFIG_WALK, row, start, records[: size + 200]).run()
    assert out.reason is Reason.NONE and out.last[:2] == (1, start + size)
    march(row, (2**32 - 2 * size - 50_000) // 16645)
    assert 0 < tcp.delta(start, row.walk) < 100_000
    Walk(CONFIG_WALK, row, row.walk, bytes(50)).run()
    assert row.state is State.SEARCHING
    out = Walk(CONFIG_WALK, row, start, records[:size]).run()
    assert out.event and out.event.guess == start
    event, _ = answer(CONFIG_WALK, row, start, 0, False)
    assert event and event.number == 1
    out = Walk(CONFIG_WALK, row, start + size, records[size:]).run()
    assert out.reason is Reason.NOT_OPEN and not out.spans


def test_a_resync_closes_nothing_two_gibibytes_later():
    row = new_row(CONFIG_WALK, 0, 0, VERSION_TLS13, 0, 0)
    march(row, 6)
    Walk(CONFIG_WALK, row, row.walk, bytes(50)).run()
    assert hint(row, tcp.add(row.walk, 1000), 9)
    march(row, (2**31 + 2**20) // 16645)


def test_a_park_is_not_ended_by_the_go_on_of_an_earlier_record():
    """A KeyUpdate parks; a ticket in front of it is completed later and parks too."""
    stream = Stream(VERSION_TLS13)
    stream.add(bytes(30))
    ticket, update = stream.add(TICKET, 22), stream.add(KEY_UPDATE, 22)
    last = stream.add(bytes(30))
    flow = Flow(stream)
    assert flow.send(0, ticket.offset + 6).marked
    assert flow.send(ticket.end, update.end).marked
    assert flow.send(ticket.offset + 6, ticket.end).marked
    high, low = flow.device.events()
    assert (high.number, low.number) == (update.number, ticket.number)
    assert (high.kind, low.kind) == (EventKind.PARKED, EventKind.PARKED)
    flow.device.go_on(flow.handle, low.park)
    half = last.offset + 20
    assert flow.send(last.offset, half).meta.reason == Reason.PARKED
    flow.device.go_on(flow.handle, high.park)
    assert flow.send(half, last.end).marked


def test_marks_end_at_the_lowest_park():
    """A ticket parks and behind it, unmarked, another one: bytes between the two stay parked."""
    stream = Stream(VERSION_TLS13)
    ticket, between = stream.add(TICKET, 22), stream.add(bytes(90))
    other = stream.add(TICKET, 22)
    flow = Flow(stream)
    assert flow.send(0, ticket.end).marked
    assert flow.send(ticket.end, ticket.end + 6).meta.reason == Reason.PARKED
    assert flow.send(between.end, other.end).meta.reason == Reason.PARKED
    first, second = flow.device.events()
    middle = ticket.end + 40
    assert flow.send(ticket.end + 6, middle).meta.reason == Reason.PARKED
    flow.device.go_on(flow.handle, first.park)
    assert flow.send(middle, middle + 9).meta.reason == Reason.PARKED
    flow.device.go_on(flow.handle, second.park)
    assert flow.send(middle + 9, between.end).marked


def test_the_last_record_of_a_packet_that_may_change_keys_names_the_park():
    """Tickets come in pairs, and a KeyUpdate may follow: go-on waits for the last of them."""
    stream = Stream(VERSION_TLS13)
    stream.add(TICKET, 22)
    update = stream.add(KEY_UPDATE, 22)
    flow = Flow(stream)
    assert flow.send(0, update.end).meta.reason == Reason.PARKED
    (event,) = flow.device.events()
    assert event.number == update.number


def test_a_mark_of_256_generations_ago_is_not_of_this_generation():
    """TCP holds a marked packet while its context is installed again and again."""
    stream = Stream(VERSION_TLS13)
    stream.add(bytes(200))
    victim = Victim(stream)
    device, rx = victim.device, victim.rx
    seq = tcp.add(stream.seq, 0)
    forged = bytearray(stream.wire[:100])
    forged[50] ^= 1
    (old,) = device.receive([frame(seq, bytes(forged))])
    assert old.marked
    for _ in range(256):
        device.tls_dev_del(rx.handle)
        rx.installed(device.tls_dev_add(FLOW, stream.keys(0), stream.seq))
    device.receive([frame(seq, stream.wire[:100])])  # the card alone
    (new,) = device.receive([frame(tcp.add(seq, 100), stream.wire[100:])])
    assert new.marked and new.meta.last_completes
    assert new.meta.generation == rx.handle.generation != old.meta.generation
    out = rx.feed([StreamRange(p.meta.seq, p.meta.payload_length, p) for p in (old, new)])
    assert [type(event) for event in out] == [RecordRefused]


def test_text_spans_of_the_longest_frame_fit_in_front_of_its_entry():
    assert text_spans(Config()) == TEXT_SPANS
    for longest in (9234, 11_300, 16_000):
        config = Config(max_frame=longest)
        # TLS 1.3 records of one text byte, behind the shortest headers of Ethernet, IPv4 and TCP.
        assert text_spans(config) >= -(-(longest - 54) // 22)


def test_tags_and_clear_spans_of_the_longest_frame_fit_in_front_of_its_entry():
    for longest in (64, 9234, 11_300, 16_000):
        # A DUMP frame is payload from its first byte on: records of 22 bytes, the first one cut so
        # that its tag, or what is left of its header, begins the frame.
        assert tag_depth(Config(max_frame=longest)) >= -(-longest // 22)
