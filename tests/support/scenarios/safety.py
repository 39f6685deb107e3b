# SPDX-License-Identifier: Apache-2.0
"""Attacks on single safety rules, each of which once succeeded against this design.

A test module imports them and has a fixture `device`, the device under attack, with few flows.
"""

from sealane.driver.ktls.rx.events import RecordRefused
from sealane.driver.ktls.rx.offload import StreamRange
from sealane.hdl.abi.config import VERSION_TLS12, VERSION_TLS13
from sealane.hdl.abi.events import EventKind
from sealane.hdl.abi.meta import Reason
from tests.support.card import Flow
from tests.support.flow_frames import FLOW, frame
from tests.support.marking_device import TICKET, Stream
from tests.support.scenarios.man_in_the_middle import Victim
from tests.support.sealed_streams import KEY_UPDATE


def test_header_bytes_of_a_closed_record_are_not_marked(device):
    """R2 where only a few header bytes of a record pass: they belong to it like all others.

    The card alone sees the true header of an application record and completes it. After a resync
    before it, three forged header bytes say `alert`. Marked, they would have completed a fully
    marked record with a good verdict for the same tuple, as a closure alert.
    """
    stream = Stream(VERSION_TLS12)
    stream.add(bytes(40))
    record = stream.add(b"\1\0")  # application data that reads as close_notify
    victim = Victim(stream, device)
    start, end = record.offset, record.end
    victim.packet(0, stream.wire[: start + 3], True, False)
    victim.packet(start + 3, stream.wire[start + 3 : end], True, True)
    assert victim.packets[0].marked and victim.packets[0].meta.last_completes
    victim.packet(end, bytes(20), True, False)  # no header: sync is lost
    victim.packet(0, stream.wire[:start], True, True)  # found, requested, confirmed
    victim.packet(start, b"\x15\3\3", True, True)
    assert victim.packets[-1].meta.reason == Reason.NOT_OPEN
    assert [(r.content_type, r.plaintext) for r in victim.records] == [(23, bytes(40))]


def test_a_park_is_not_ended_by_the_go_on_of_an_earlier_record(device):
    """A KeyUpdate parks. A ticket before it is completed later and parks too."""
    stream = Stream(VERSION_TLS13)
    stream.add(bytes(30))
    ticket, update = stream.add(TICKET, 22), stream.add(KEY_UPDATE, 22)
    last = stream.add(bytes(30))
    flow = Flow(stream, device)
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


def test_marks_end_at_the_lowest_park(device):
    """A ticket parks, and another one follows it unmarked: bytes between the two stay parked."""
    stream = Stream(VERSION_TLS13)
    ticket, between = stream.add(TICKET, 22), stream.add(bytes(90))
    other = stream.add(TICKET, 22)
    flow = Flow(stream, device)
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


def test_the_last_record_of_a_packet_that_may_change_keys_names_the_park(device):
    """Tickets come in pairs, and a KeyUpdate may follow: go-on waits for the last of them."""
    stream = Stream(VERSION_TLS13)
    stream.add(TICKET, 22)
    update = stream.add(KEY_UPDATE, 22)
    flow = Flow(stream, device)
    assert flow.send(0, update.end).meta.reason == Reason.PARKED
    (event,) = flow.device.events()
    assert event.number == update.number


def test_a_mark_of_256_generations_ago_is_not_of_this_generation(device):
    """TCP holds a marked packet while its context is installed again and again."""
    stream = Stream(VERSION_TLS13)
    stream.add(bytes(200))
    victim = Victim(stream, device)
    rx = victim.rx
    seq = stream.seq
    forged = bytearray(stream.wire[:100])
    forged[50] ^= 1
    (old,) = device.receive([frame(seq, bytes(forged))])
    assert old.marked
    for _ in range(256):
        device.tls_dev_del(rx.handle)
        rx.installed(device.tls_dev_add(FLOW, stream.keys(0), stream.seq))
    device.receive([frame(seq, stream.wire[:100])])  # the card alone
    (new,) = device.receive([frame((seq + 100) % 2**32, stream.wire[100:])])
    assert new.marked and new.meta.last_completes
    assert new.meta.generation == rx.handle.generation != old.meta.generation
    out = rx.feed([StreamRange(p.meta.seq, p.meta.payload_length, p) for p in (old, new)])
    assert [type(event) for event in out] == [RecordRefused]
