# SPDX-License-Identifier: Apache-2.0
"""Resync: driver request, next-record hint with back-off, asynchronous request."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sealane.driver.device.descriptors import DeviceEvent, Handle, RxPacket
from sealane.driver.ktls.rx.events import (
    RecordAccepted,
    RecordRefused,
    Rekey,
    ResyncAnswer,
    ResyncHint,
)
from sealane.driver.ktls.rx.offload import KtlsRx
from sealane.driver.ktls.rx.resync import ASYNC_LOGMAX, Resync, ResyncMode
from sealane.hdl.abi.config import VERSION_TLS13
from sealane.hdl.abi.events import EventKind
from sealane.hdl.abi.meta import Reason
from tests.support.marking_device import HANDLE, TRUTH, Stream, ranges
from tests.support.sealed_streams import KEY_UPDATE


def event(kind: EventKind, **fields: int) -> DeviceEvent:
    fields = {"context": HANDLE.context, "generation": HANDLE.generation} | fields
    return DeviceEvent(kind=kind, **fields)


def setup(records: int = 6, mode: ResyncMode = ResyncMode.DRIVER_REQ, seq: int = 0xFFFFFF00):
    """A receiver, one packet per record (record sizes 122), and the sequence numbers of records."""
    stream = Stream(VERSION_TLS13, seq=seq)
    for _ in range(records):
        stream.add(bytes(100))
    cuts = [r.end for r in stream.records[:-1]]
    rx = KtlsRx(stream.keys(0), seq, handle=HANDLE, resync_mode=mode)
    return stream, rx, ranges(stream, cuts, [None] * records)


def starts(stream: Stream) -> list[int]:
    return [(stream.seq + r.offset) % 2**32 for r in stream.records]


def resyncs(events):
    return [e for e in events if isinstance(e, ResyncAnswer | ResyncHint)]


def test_candidate_ahead_is_confirmed_when_its_header_is_framed():
    stream, rx, pieces = setup()
    candidate_seq = starts(stream)[3]
    assert rx.device_event(event(EventKind.RESYNC_REQUEST, candidate_seq=candidate_seq)) == []
    assert resyncs(rx.feed(pieces[:3])) == []
    assert resyncs(rx.feed(pieces[3:4])) == [ResyncAnswer(candidate_seq, 3)]
    assert resyncs(rx.feed(pieces[4:])) == []  # once
    assert rx.counters.resync_confirmed == 1


def test_answer_needs_no_more_than_the_header():
    stream, rx, pieces = setup(2)
    (whole,) = ranges(stream, [], [None])
    head = type(whole)(whole.seq, stream.records[1].offset + 5, whole.packet)
    candidate_seq = starts(stream)[1]
    rx.device_event(event(EventKind.RESYNC_REQUEST, candidate_seq=candidate_seq))
    assert resyncs(rx.feed([head])) == [ResyncAnswer(candidate_seq, 1)]


def test_candidate_in_a_record_is_refused_as_soon_as_that_is_sure():
    stream, rx, pieces = setup()
    candidate_seq = (starts(stream)[2] + 1) % 2**32
    rx.device_event(event(EventKind.RESYNC_REQUEST, candidate_seq=candidate_seq))
    assert resyncs(rx.feed(pieces[:2])) == []
    assert resyncs(rx.feed(pieces[2:3])) == [ResyncAnswer(candidate_seq, None)]
    assert rx.counters.resync_refused == 1


def test_candidates_that_were_parsed_before_are_answered_at_once():
    stream, rx, pieces = setup()
    rx.feed(pieces[:4])
    good, bad = starts(stream)[2], (starts(stream)[2] + 7) % 2**32
    assert rx.device_event(event(EventKind.RESYNC_REQUEST, candidate_seq=good)) == [
        ResyncAnswer(good, 2)
    ]
    assert rx.device_event(event(EventKind.RESYNC_REQUEST, candidate_seq=bad)) == [
        ResyncAnswer(bad, None)
    ]


def test_a_newer_candidate_takes_the_older_ones_place():
    stream, rx, pieces = setup()
    rx.device_event(event(EventKind.RESYNC_REQUEST, candidate_seq=starts(stream)[2]))
    rx.device_event(event(EventKind.RESYNC_REQUEST, candidate_seq=starts(stream)[4]))
    assert resyncs(rx.feed(pieces)) == [ResyncAnswer(starts(stream)[4], 4)]


def test_requests_of_another_generation_are_ignored():
    stream, rx, pieces = setup()
    rx.device_event(event(EventKind.RESYNC_REQUEST, candidate_seq=starts(stream)[2], generation=1))
    assert resyncs(rx.feed(pieces)) == []


def test_refused_at_the_end_of_the_connection_and_behind_it():
    stream, rx, pieces = setup()
    candidate_seq = (stream.seq + 10_000) % 2**32
    rx.device_event(event(EventKind.RESYNC_REQUEST, candidate_seq=candidate_seq))
    stream.wire = stream.wire[:200] + b"?" + stream.wire[201:]
    (broken,) = ranges(stream, [], [None])
    out = rx.feed([broken])
    assert isinstance(out[-1], RecordRefused)
    assert resyncs(out) == [ResyncAnswer(candidate_seq, None)]
    again = rx.device_event(event(EventKind.RESYNC_REQUEST, candidate_seq=candidate_seq))
    assert again == [ResyncAnswer(candidate_seq, None)]


def test_a_candidate_behind_a_key_change_is_answered_in_the_new_count():
    stream = Stream(VERSION_TLS13)
    stream.add(b"before")
    stream.add(KEY_UPDATE, content_type=22)
    stream.next_epoch()
    stream.add(b"x")
    stream.add(b"y")
    rx = KtlsRx(stream.keys(0), stream.seq, handle=HANDLE, next_keys=lambda: stream.keys(1))
    rx.device_event(event(EventKind.RESYNC_REQUEST, candidate_seq=starts(stream)[3]))
    out = [e for e in rx.feed(ranges(stream, [], [None])) if not isinstance(e, RecordAccepted)]
    assert out == [
        Rekey(starts(stream)[2], 1, stream.keys(1), 2),
        ResyncAnswer(starts(stream)[3], 1),
    ]
    rx.rekeyed(Handle(HANDLE.context, HANDLE.generation + 1), starts(stream)[3])
    # Requested before the rekey, taken after it. Records before the change are not reported any
    # more.
    late = event(EventKind.RESYNC_REQUEST, candidate_seq=starts(stream)[2])
    assert rx.device_event(late) == [ResyncAnswer(starts(stream)[2], 0)]
    late = event(EventKind.RESYNC_REQUEST, candidate_seq=starts(stream)[1])
    assert rx.device_event(late) == [ResyncAnswer(starts(stream)[1], None)]


def test_hints_back_off():
    stream, rx, pieces = setup(600, ResyncMode.CORE_NEXT_HINT)
    hinted = []
    for i, piece in enumerate(pieces):
        for hint in resyncs(rx.feed([piece])):
            assert hint == ResyncHint((piece.seq + piece.length) % 2**32, i + 1)
            hinted.append(i + 1)
    assert hinted == [2, 4, 8, 16, 32, 64, 128, 256, 384, 512]


def test_a_decrypted_record_ends_the_back_off():
    stream, rx, _ = setup(12, ResyncMode.CORE_NEXT_HINT)
    cuts = [r.end for r in stream.records[:-1]]
    pieces = ranges(stream, cuts, [None] * 5 + [TRUTH] + [None] * 6)
    hinted = [i + 1 for i, p in enumerate(pieces) if resyncs(rx.feed([p]))]
    assert hinted == [2, 4, 8, 10]


def test_a_hint_names_a_record_that_is_not_here_yet():
    stream, rx, _ = setup(5, ResyncMode.CORE_NEXT_HINT)
    cut = stream.records[3].offset + 20
    first, second = ranges(stream, [cut], [None] * 2)
    assert resyncs(rx.feed([first])) == [ResyncHint(starts(stream)[4], 4)]


@pytest.mark.parametrize("by", ("event", "reason"))
def test_given_up_falls_back_to_hints(by):
    stream, rx, pieces = setup()
    if by == "event":
        rx.device_event(event(EventKind.GIVEN_UP))
    else:
        pieces = [
            type(p)(
                p.seq,
                p.length,
                RxPacket(p.packet.frame, replace(p.packet.meta, reason=Reason.GIVEN_UP)),
            )
            for p in pieces
        ]
    assert [bool(resyncs(rx.feed([p]))) for p in pieces[:4]] == [False, True, False, True]


def test_no_hints_without_need():
    stream, rx, pieces = setup()
    assert resyncs(rx.feed(pieces)) == []


def test_asynchronous_request_is_answered_from_the_log():
    stream, rx, pieces = setup(6, ResyncMode.DRIVER_REQ_ASYNC)
    at = starts(stream)
    assert (
        rx.device_event(event(EventKind.RESYNC_REQUEST, lost_at=at[1], candidate_seq=at[3])) == []
    )
    assert rx.resync.async_open
    assert resyncs(rx.feed(pieces[:5])) == []
    assert rx.async_end(at[3]) == [ResyncAnswer(at[3], 3)]
    assert not rx.resync.async_open
    assert rx.async_end(at[3]) == []


def test_asynchronous_request_out_of_the_log_and_ahead():
    stream, rx, pieces = setup(6, ResyncMode.DRIVER_REQ_ASYNC)
    at = starts(stream)
    rx.async_start(at[1], 2 * 122)
    rx.feed(pieces[:5])
    assert rx.async_end((at[2] + 3) % 2**32) == [ResyncAnswer((at[2] + 3) % 2**32, None)]
    rx.async_start(at[4], 500)
    assert rx.async_end(at[5]) == []
    assert resyncs(rx.feed(pieces[5:])) == [ResyncAnswer(at[5], 5)]
    rx.async_start(at[4], 500)
    rx.async_cancel()
    assert rx.async_end(at[4]) == []
    counters = rx.netdev
    assert counters.rx_tls_resync_req_start == 3
    assert (counters.rx_tls_resync_req_end, counters.rx_tls_resync_req_skip) == (2, 1)


def test_the_log_is_bounded():
    resync = Resync(ResyncMode.DRIVER_REQ_ASYNC)
    resync.async_start(0, 100_000)
    for i in range(20):
        resync.header(100 * i, i, 100 * i + 100, 100 * i + 100)
    last = ASYNC_LOGMAX - 1
    assert resync.async_end(100 * (last + 1), 2000) == [ResyncAnswer(100 * (last + 1), None)]
    resync.async_start(0, 100_000)
    for i in range(70_000):
        resync.header(100 * i, i, 100 * i + 100, 100 * i + 100)
    assert not resync.async_open
