# SPDX-License-Identifier: Apache-2.0
"""Rule H and the receive core: delivered bytes are right however a card marks packets."""

from __future__ import annotations

import pytest
from cryptography.exceptions import InvalidTag
from hypothesis import given, settings
from hypothesis import strategies as st

from sealane.driver.device.descriptors import DeviceEvent, Handle, RxMeta, RxPacket
from sealane.driver.ktls.rx.events import (
    GoOn,
    How,
    KeysNeeded,
    RecordAccepted,
    RecordRefused,
    Rekey,
    StreamClosed,
)
from sealane.driver.ktls.rx.framing import Mark
from sealane.driver.ktls.rx.offload import KtlsRx, StreamRange
from sealane.hdl.abi.config import VERSION_TLS12, VERSION_TLS13
from sealane.hdl.abi.events import EventKind
from tests.support import tls_records
from tests.support.ktls_rx_host import Host
from tests.support.marking_device import (
    HANDLE,
    TICKET,
    TRUTH,
    Belief,
    Stream,
    crypt_text,
    info,
    ranges,
    seal,
    stream_of,
)
from tests.support.sealed_streams import KEY_UPDATE
from tests.support.sequence_numbers import distance

VERSIONS = (VERSION_TLS12, VERSION_TLS13)


def run(stream: Stream, cuts, beliefs) -> Host:
    host = Host(stream)
    host.feed(*ranges(stream, cuts, beliefs))
    return host


@pytest.mark.parametrize("bits", (128, 256))
@pytest.mark.parametrize("version", VERSIONS)
def test_all_marked_skips_crypto(version, bits, monkeypatch):
    stream = stream_of(version, 3000, 0, 1, 5000, bits=bits)
    monkeypatch.setattr(type(stream.keys(0)), "open", lambda *_: pytest.fail("software AEAD"))
    cuts = range(700, len(stream.wire), 700)
    host = run(stream, cuts, [TRUTH] * 99)
    assert host.app_data == stream.app_data
    assert host.hows == ["full"] * 4
    assert host.rx.leftover_bytes == 0


@pytest.mark.parametrize("version", VERSIONS)
def test_none_marked(version):
    stream = stream_of(version, 3000, 0, 17)
    host = run(stream, [1000, 2000], [None] * 3)
    assert host.app_data == stream.app_data
    assert host.hows == ["none"] * 3


@pytest.mark.parametrize("version", VERSIONS)
def test_mixed_record_is_restored(version):
    stream = stream_of(version, 100, 4000, 100)
    host = run(stream, [1000, 2000, 3000], [TRUTH, None, TRUTH, TRUTH])
    assert host.app_data == stream.app_data
    assert host.hows == ["full", "partial", "full"]
    assert host.rx.counters.marks_undone == 0


@pytest.mark.parametrize("version", VERSIONS)
def test_marked_without_verdict_is_mixed(version):
    stream = stream_of(version, 4000)
    host = run(stream, [1000, 2000], [TRUTH, TRUTH, Belief(verdict=False)])
    assert host.app_data == stream.app_data
    assert host.hows == ["partial"]
    assert host.rx.counters.without_verdict == 1
    assert host.rx.counters.verdict_mismatch == 0


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("cut", range(1, 20))
def test_cut_inside_header_and_nonce(version, cut):
    stream = stream_of(version, 200, 300)
    at = stream.records[1].offset + cut
    host = run(stream, [100, at, at + 2, at + 4], [TRUTH] * 5)
    assert host.app_data == stream.app_data
    assert host.hows == ["full", "full"]


WRONG = {
    "number": Belief(number=1),
    "far number": Belief(number=1 << 40),
    "generation": Belief(generation=1),
    "context": Belief(context=1),
}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG.keys())
def test_wrong_framing_is_undone(version, wrong):
    """Every packet is wrongly framed alike, verdicts included. Nothing is accepted unverified."""
    stream = stream_of(version, 900, 900, 900)
    host = run(stream, [500, 1200], [wrong] * 3)
    assert host.app_data == stream.app_data
    assert host.hows == ["partial"] * 3
    assert host.rx.counters.marks_undone == 3
    assert host.rx.counters.verdict_mismatch == 3


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("shift", (-40, -1, 1, 16, 300))
def test_wrong_start_is_undone(version, shift):
    """The card saw a header where there is none. Its text reaches over the true headers."""
    stream = stream_of(version, 4000, 100)
    beliefs = [TRUTH, Belief(start=shift), TRUTH]
    host = run(stream, [1000, 2000], beliefs)
    assert host.app_data == stream.app_data
    assert host.hows == ["partial", "full"]
    assert host.rx.counters.marks_undone == 1


def test_header_inside_foreign_text_is_restored_before_it_is_read():
    """A card that follows an embedded record decrypts the true header of the record after it."""
    stream = stream_of(VERSION_TLS13, 500, 500)
    low, high = 100, stream.records[1].offset + 200
    length = high - low + 300  # the embedded record's, whose header lies before the packet
    text = crypt_text(stream.keys(0), 77, b"", 0, stream.wire[low:high])
    meta = RxMeta(
        context=HANDLE.context,
        context_valid=1,
        generation=HANDLE.generation,
        decrypted=1,
        payload_length=high - low,
        seq=(stream.seq + low) % 2**32,
        records=1,
        first_number=77,
        first_offset=5,
        first_length=length,
        last_number=77,
        last_start=(stream.seq + low - 5) % 2**32,
        last_length=length,
    )
    before, _, behind = ranges(stream, [low, high], [None] * 3)
    host = Host(stream)
    host.feed(before, StreamRange(meta.seq, high - low, RxPacket(text, meta)), behind)
    assert host.app_data == stream.app_data
    assert host.hows == ["partial", "partial"]
    assert host.rx.counters.marks_undone == 1


def test_framing_that_contradicts_the_packet_is_undone():
    stream = stream_of(VERSION_TLS13, 300, 300, 300)
    (good,) = ranges(stream, [], [TRUTH])
    for change in (
        {"records": 2},
        {"last_number": 9},
        {"last_start": 5},
        {"last_length": 99},
        {"first_length": 99},
    ):
        fields = {name: getattr(good.packet.meta, name) for name in RxMeta.__slots__} | change
        bad = RxPacket(good.packet.frame, RxMeta(**fields))
        host = Host(stream)
        host.feed(StreamRange(good.seq, good.length, bad))
        assert "full" not in host.hows
        assert host.rx.counters.marks_undone == 1
        assert stream.app_data.startswith(host.app_data)


def test_mark_under_unknown_epoch_ends_the_connection():
    stream = stream_of(VERSION_TLS13, 300)
    host = run(stream, [], [Belief(epoch=1)])
    (refused,) = host.of(RecordRefused)
    assert refused.alert == "internal_error"
    assert host.app_data == b""


@pytest.mark.parametrize("version", VERSIONS)
def test_bad_tag_ends_the_connection(version):
    stream = stream_of(version, 100, 100, 100)
    middle = stream.records[1]
    wire = bytearray(stream.wire)
    wire[middle.end - 1] ^= 1
    stream.wire = bytes(wire)
    host = run(stream, [], [None])
    assert host.app_data == stream.records[0].content
    (refused,) = host.of(RecordRefused)
    assert (refused.alert, refused.number) == ("bad_record_mac", 1)
    assert host.rx.stat.TlsDecryptError == 1
    assert host.rx.leftover_bytes == len(wire) - middle.offset
    assert host.rx.feed([]) == []


@pytest.mark.parametrize(
    "version, header, alert",
    [
        (VERSION_TLS13, b"\x16\x03\x03\x00\x20", "unexpected_message"),
        (VERSION_TLS13, b"\x17\x03\x01\x00\x20", "protocol_version"),
        (VERSION_TLS13, b"\x17\x03\x03\x41\x01", "record_overflow"),
        (VERSION_TLS13, b"\x17\x03\x03\x00\x10", "bad_record_mac"),
        (VERSION_TLS12, b"\x18\x03\x03\x00\x20", "unexpected_message"),
        (VERSION_TLS12, b"\x17\x03\x03\x40\x19", "record_overflow"),
        (VERSION_TLS12, b"\x17\x03\x03\x00\x17", "bad_record_mac"),
    ],
)
def test_bad_header_ends_the_connection(version, header, alert):
    stream = stream_of(version, 50)
    stream.wire += header
    host = run(stream, [], [None])
    assert host.hows == ["none"]
    assert host.of(RecordRefused)[0].alert == alert


def raw13(text: bytes) -> bytes:
    keys = info(VERSION_TLS13)
    return tls_records.seal(VERSION_TLS13, keys.key, keys.iv, 0, 23, text)


@pytest.mark.parametrize(
    "text, alert",
    [
        (bytes(40), "unexpected_message"),
        (b"\x16", "unexpected_message"),
        (b"\x15", "decode_error"),
        (b"\x01\x14", "unexpected_message"),
        (bytes(16384) + b"\x17\0", "record_overflow"),
        (KEY_UPDATE + b"x\x16", "unexpected_message"),
        (b"\x18\0\0\1\2\x16", "illegal_parameter"),
        (b"\x18\0\0\2\0\0\x16", "decode_error"),
    ],
)
def test_inner_plaintext_that_tls_refuses(text, alert):
    stream = Stream(VERSION_TLS13, wire=raw13(text))
    host = run(stream, [], [None])
    assert host.of(RecordRefused)[0].alert == alert
    assert host.of(RecordAccepted) == []


def test_padding_and_limits_tls13():
    stream = Stream(VERSION_TLS13)
    stream.add(b"abc", padding=1000)
    stream.add(b"", padding=3)
    stream.add(bytes(16384))
    host = run(stream, [500, 600], [TRUTH] * 3)
    assert host.app_data == stream.app_data
    assert host.hows == ["full"] * 3


@pytest.mark.parametrize("version", VERSIONS)
def test_close_notify_ends_reading(version):
    stream = stream_of(version, 10)
    stream.add(b"\1\0", content_type=21)
    stream.add(b"ignored")
    host = run(stream, [], [None])
    assert host.app_data == stream.records[0].content
    assert host.of(StreamClosed) == [StreamClosed((stream.seq + stream.records[1].end) % 2**32)]
    assert host.of(RecordRefused) == []
    assert host.rx.leftover_bytes == len(stream.records[2].wire)


# --- key changes --------------------------------------------------------------------------------


def updated_stream() -> Stream:
    stream = stream_of(VERSION_TLS13, 700)
    stream.add(KEY_UPDATE, content_type=22)
    stream.next_epoch()
    stream.add(b"new keys" * 100)
    stream.add(b"more" * 100)
    return stream


def test_key_update_in_the_same_packet():
    stream = updated_stream()
    host = run(stream, [], [None])
    assert host.app_data == stream.app_data
    at = (stream.seq + stream.records[1].end) % 2**32
    assert host.of(Rekey) == [Rekey(at, 1, stream.keys(1), 2)]
    assert [e.number for e in host.of(RecordAccepted)] == [0, 1, 0, 1]
    assert host.rx.handle == Handle(HANDLE.context, HANDLE.generation + 1)


def test_marks_hold_again_behind_a_rekey():
    stream = updated_stream()
    cuts = [stream.records[1].end]
    host = run(stream, cuts, [TRUTH] * 2)
    assert host.hows == ["full"] * 4
    assert host.app_data == stream.app_data


def test_overtaken_key_update_is_undone():
    """Packets after a lost KeyUpdate were marked under the old epoch, whose key still serves."""
    stream = updated_stream()
    cuts = [stream.records[1].end, stream.records[2].offset + 300]
    wrong = Belief(number=2, epoch=-1, generation=-1)
    host = run(stream, cuts, [None, wrong, wrong])
    assert host.app_data == stream.app_data
    assert host.hows == ["none", "none", "partial", "partial"]
    assert host.rx.counters.marks_undone == 2


def test_old_keys_are_dropped_when_the_stream_has_passed():
    stream = updated_stream()
    host = Host(stream)
    pieces = ranges(stream, [stream.records[2].end], [None] * 2)
    host.take(host.rx.feed(pieces[:1]), (stream.seq + stream.records[2].end + 1) % 2**32)
    assert set(host.rx._epochs) == {0, 1}
    host.take(host.rx.feed(pieces[1:]))
    assert set(host.rx._epochs) == {1}


def test_key_update_cut_and_coalesced():
    stream = Stream(VERSION_TLS13)
    stream.add(TICKET + KEY_UPDATE[:2], content_type=22)
    stream.add(KEY_UPDATE[2:], content_type=22)
    stream.next_epoch()
    stream.add(b"behind")
    host = run(stream, [], [None])
    assert host.app_data == b"behind"
    assert host.rx.counters.key_updates == 1


def test_record_inside_a_handshake_message_is_refused():
    stream = Stream(VERSION_TLS13)
    stream.add(TICKET[:5], content_type=22)
    stream.add(b"data")
    host = run(stream, [], [None])
    assert host.of(RecordRefused)[0].alert == "unexpected_message"


def test_renegotiation_waits_for_keys():
    stream = stream_of(VERSION_TLS12, 50)
    stream.add(b"\1", content_type=20)
    stream.next_epoch()
    stream.add(b"\x14\0\0\x0c" + bytes(12), content_type=22)
    stream.add(b"renegotiated")
    host = run(stream, [], [None])
    at = (stream.seq + stream.records[1].end) % 2**32
    assert host.of(KeysNeeded) == [KeysNeeded(at)]
    assert host.app_data == stream.records[0].content
    host.take(host.rx.install_next(stream.keys(1)))
    assert host.app_data == stream.app_data
    assert host.of(Rekey) == [Rekey(at, 1, stream.keys(1), 2)]
    with pytest.raises(ValueError):
        host.rx.install_next(stream.keys(1))


# --- parks --------------------------------------------------------------------------------------


def parked(number: int, park: int, generation: int = HANDLE.generation) -> DeviceEvent:
    return DeviceEvent(
        kind=EventKind.PARKED,
        context=HANDLE.context,
        generation=generation,
        number=number,
        park=park,
    )


@pytest.mark.parametrize("late", (False, True))
def test_go_on_behind_a_ticket(late):
    stream = stream_of(VERSION_TLS13, 20)
    stream.add(TICKET, content_type=22)
    host = Host(stream)
    pieces = ranges(stream, [], [None])
    if not late:
        host.take(host.rx.device_event(parked(1, 9)))
        assert host.events == []
    host.feed(*pieces)
    if late:
        assert host.of(GoOn) == []
        host.take(host.rx.device_event(parked(1, 9)))
    assert host.of(GoOn) == [GoOn(9)]


def test_no_go_on_at_a_key_update_or_of_another_generation():
    stream = updated_stream()
    host = Host(stream)
    host.take(host.rx.device_event(parked(0, 4, generation=HANDLE.generation + 1)))
    host.take(host.rx.device_event(parked(1, 5)))
    host.feed(*ranges(stream, [], [None]))
    assert host.of(GoOn) == []
    assert len(host.of(Rekey)) == 1


# --- any cuts, any marks ------------------------------------------------------------------------

BELIEFS = st.sampled_from(
    [
        None,
        TRUTH,
        TRUTH,
        TRUTH,
        *WRONG.values(),
        Belief(verdict=False),
        Belief(start=7),
        Belief(start=-20),
        Belief(number=2, epoch=-1, generation=-1),
    ]
)


@settings(max_examples=150)
@given(data=st.data())
def test_any_cuts_any_marks(data):
    version = data.draw(st.sampled_from(VERSIONS))
    stream = Stream(version, seq=data.draw(st.sampled_from((0, 1 << 31, 0xFFFFFF80))))
    for size in data.draw(st.lists(st.integers(0, 120), min_size=1, max_size=8)):
        stream.add(bytes(size + i & 0xFF for i in range(size)))
        if version == VERSION_TLS13 and data.draw(st.integers(0, 3)) == 0:
            stream.add(KEY_UPDATE, content_type=22)
            stream.next_epoch()
    size = len(stream.wire)
    cuts = sorted(data.draw(st.sets(st.integers(1, size - 1), max_size=12)))
    beliefs = data.draw(st.lists(BELIEFS, min_size=len(cuts) + 1, max_size=len(cuts) + 1))
    pieces = ranges(stream, cuts, beliefs)
    host = Host(stream)
    host.feed(*pieces)
    assert host.of(RecordRefused) == []
    assert host.app_data == stream.app_data
    for event, record in zip(host.of(RecordAccepted), stream.records, strict=True):
        covering = [
            p
            for p in pieces
            if distance(p.seq, event.start) < len(record.wire)
            and distance((p.seq + p.length) % 2**32, event.start) > 0
        ]
        honest = [p.packet.marked and _honest(p, stream) for p in covering]
        if event.how is How.FULL:
            assert all(honest)
        if not any(p.packet.marked for p in covering):
            assert event.how is How.NONE


def _honest(piece: StreamRange, stream: Stream) -> bool:
    """Whether the packet's framing of every record in it is the true one."""
    meta = piece.packet.meta
    mark = Mark(piece.packet, stream.version)
    at = distance(piece.seq, stream.seq)
    true = [r for r in stream.records if r.offset < at + piece.length and r.end > at]
    return (
        mark.consistent
        and meta.context == HANDLE.context
        and all(
            (framed := mark.record_at((stream.seq + r.offset) % 2**32)) is not None
            and framed.number == r.number
            and meta.epoch == r.epoch
            and meta.generation == HANDLE.generation + r.epoch
            for r in true
        )
    )


def test_ranges_must_follow_each_other():
    stream = stream_of(VERSION_TLS13, 100)
    first, second = ranges(stream, [50], [None, None])
    rx = KtlsRx(stream.keys(0), stream.seq)
    with pytest.raises(ValueError):
        rx.feed([second])
    with pytest.raises(ValueError):
        rx.feed([StreamRange(first.seq, first.length + 1, first.packet)])


def test_keys_are_not_shown():
    keys = info(VERSION_TLS13, 1)
    assert keys.key.hex() not in repr(keys) and repr(keys.key) not in repr(keys)
    wire, _ = seal(keys, 0, 23, b"x")
    with pytest.raises(InvalidTag):
        keys.open(1, 23, wire[5:])
