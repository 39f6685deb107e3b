# SPDX-License-Identifier: Apache-2.0
"""Plaintext of a direction out of a capture: sealed again by software it is the capture."""

import random
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from sealane.driver.ktls.tx.records import ROOM
from sealane.driver.net.parser import parse
from sealane.driver.net.tcp import ConnectionTable
from sealane.driver.replay.capture import read_capture
from sealane.driver.replay.oracle import HOST, DirectionTruth, decode_capture
from sealane.driver.replay.tx.plain import PlainDirection
from sealane.driver.tls.keylog import Keylog
from sealane.driver.tls.records import Outcome
from tests.support.replays import CAPTURES, NAMES, captured
from tests.support.sealed_streams import Tls13
from tests.support.tcp_frames import conversation, frames
from tests.support.tls_traffic import TlsRun

DIRECTIONS = ("c2s", "s2c")


def streams_of(packets):
    """Bytes of both directions of each connection, put together by TCP."""
    table, streams = ConnectionTable(), {}
    for packet in packets:
        segment = table.accept(packet.index, parse(packet.frame, HOST), packet.frame)
        if segment is not None:
            at = streams.setdefault((segment.connection.index, segment.direction), bytearray())
            at += b"".join(piece.data for piece in segment.pieces)
    return streams


def packets_of(flights):
    return captured(frames(conversation(flights)))


def directions_of(flights, keylog):
    """The plaintext of both directions of a made-up connection, and its bytes."""
    packets = packets_of(flights)
    (truth,) = decode_capture(packets, Keylog.parse(keylog))
    streams = streams_of(packets)
    return {
        direction: (PlainDirection(truth[direction]), bytes(streams[0, direction]))
        for direction in DIRECTIONS
    }


def is_the_stream(plain, stream):
    """Sealed again it is the stream; whole, in pieces, and room is where the tags were."""
    assert plain.wire_bytes(plain.start, plain.end) == stream[plain.start : plain.end]
    host = plain.host_bytes(plain.start, plain.end)
    assert len(host) == plain.end - plain.start
    for record in plain.records:
        at = record.start - plain.start
        assert host[at:].startswith(record.header + record.text + ROOM)
        assert record.host == host[at : record.end - plain.start]
    chance = random.Random(1)
    for _ in range(100):
        start = chance.randint(plain.start, plain.end)
        end = min(start + chance.choice((0, 1, 20, 1448, 40000)), plain.end)
        assert plain.wire_bytes(start, end) == stream[start:end]
        assert plain.host_bytes(start, end) == host[start - plain.start : end - plain.start]
        text = b"".join(
            host[a - plain.start : b - plain.start] for a, b in plain.text_spans(start, end)
        )
        known = [r for r in plain.records if r.start < end and start < r.end]
        assert text == b"".join(
            r.text[max(start - r.start - len(r.header), 0) : max(end - r.start - len(r.header), 0)]
            for r in known
        )


@pytest.mark.parametrize("name", [n for n in NAMES if not n.startswith("c27")])
def test_captures_sealed_again(name):
    """All bytes behind the keys of every direction of every capture."""
    packets = read_capture(CAPTURES / f"{name}.pcap.gz").packets
    streams = streams_of(packets)
    for truth in decode_capture(packets, Keylog.read(CAPTURES / f"{name}.keys")):
        for direction in DIRECTIONS:
            plain = PlainDirection(truth[direction])
            is_the_stream(plain, bytes(streams[truth.tcp.index, direction]))
            assert plain.end == truth[direction].stream_bytes
            counts = [record.count for record in plain.records]
            assert counts == list(range(plain.first_keys.number, counts[-1] + 1))
            assert [r.epoch for r in plain.records] == sorted(r.epoch for r in plain.records)
            assert plain.records[-1].epoch == truth[direction].key_updates


def test_a_suite_that_no_card_does():
    packets = read_capture(CAPTURES / "c27_chacha_tls13.pcap.gz").packets
    (truth,) = decode_capture(packets, Keylog.read(CAPTURES / "c27_chacha_tls13.keys"))
    for direction in DIRECTIONS:
        with pytest.raises(ValueError, match="AES-GCM"):
            PlainDirection(truth[direction])
    with pytest.raises(ValueError, match="AES-GCM"):
        PlainDirection(DirectionTruth())


def test_padding_and_changes_of_keys():
    """Padded records of TLS 1.3 over three epochs; N goes on, the nonce's number begins again."""
    tls = Tls13()
    for epoch in range(3):
        for size in (0, 1, 16, 5000):
            tls.write("c2s", tls.client.seal(bytes([size % 251]) * size, 23, size % 7))
        if epoch < 2:
            tls.write("c2s", tls.client.key_update())
    plain, stream = directions_of(tls.flights, tls.keylog_text)["c2s"]
    is_the_stream(plain, stream)
    assert [(r.count, r.number, r.epoch) for r in plain.records] == [
        *((n, n, 0) for n in range(5)),
        *((n + 5, n, 1) for n in range(5)),
        *((n + 10, n, 2) for n in range(4)),
    ]
    assert {r.padding for r in plain.records} == {0, 1, 2}
    assert len({r.info.key for r in plain.records}) == 3


@pytest.mark.parametrize("suite", ["aes128", "aes256"])
@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_openssl(version, suite):
    """What OpenSSL wrote, close_notify included; TLS 1.2 begins at record 1, behind Finished."""
    run = TlsRun(version, suite).handshake().send("c2s", b"x" * 30000).send("s2c", b"y").close()
    for plain, stream in directions_of(run.flights, run.keylog).values():
        is_the_stream(plain, stream)
        assert plain.end == len(stream)
        assert plain.records[0].count == (1 if version == "1.2" else 0)
        assert len(plain.first_nonce) == (8 if version == "1.2" else 0)


def test_renegotiation():
    """TLS 1.2: the ChangeCipherSpec under the old keys, then record 0 under new ones."""
    run = TlsRun("1.2").handshake().send("c2s", b"one").renegotiate("c2s").send("c2s", b"two")
    for plain, stream in directions_of(run.flights, run.keylog).values():
        is_the_stream(plain, stream)
        assert plain.end == len(stream) and len(plain.keys) == 2
        (change,) = [r for r in plain.records if r.content_type == 20]
        following = plain.records[change.count + 1 - plain.first_keys.number]
        assert (change.epoch, following.epoch, following.number) == (0, 1, 0)


@pytest.mark.parametrize("first", [0, 5, 2**64 - 1])
@pytest.mark.parametrize("step", [0, 1, 2])
def test_nonces_that_do_not_count(first, step):
    """TLS 1.2: whether the second explicit nonce is one more than the first, modulo 2^64."""
    run = TlsRun("1.2", "aes128").handshake().send("c2s", b"only the keys are of interest")
    truth = decode_capture(packets_of(run.flights), Keylog.parse(run.keylog))[0]["c2s"]
    install = truth.installs[0]
    records = [
        replace(
            truth.accepted(True)[0],
            offset=install.offset + 32 * i,
            wire_length=5 + 8 + 3 + 16,
            plaintext=b"abc",
            number=install.number + i,
            explicit_nonce=((first + step * i) % 2**64).to_bytes(8),
        )
        for i in range(3)
    ]
    plain = PlainDirection(replace(truth, records=records))
    assert plain.nonces_count_up == (step == 1) and len(plain.records) == 3
    record, keys = plain.records[2], plain.first_keys.keys
    nonce = ((first + step * 2) % 2**64).to_bytes(8)
    aad = record.number.to_bytes(8) + b"\x17\3\3\0\3"
    assert record.header == b"\x17\3\3\0\x1b" + nonce
    assert record.sealed() == record.header + AESGCM(keys.key).encrypt(keys.iv + nonce, b"abc", aad)


def test_a_bad_record_ends_it():
    """Behind a record that does not authenticate nothing is known, nor in one that is cut."""
    tls = Tls13()
    good = tls.client.seal(b"good")
    bad = bytearray(tls.client.seal(b"bad"))
    bad[-1] ^= 1
    tls.write("c2s", good + bytes(bad) + tls.client.seal(b"behind"))
    tls.write("s2c", tls.server.seal(b"whole") + tls.server.seal(b"cut in the middle")[:-3])
    for plain, stream in directions_of(tls.flights, tls.keylog_text).values():
        assert [r.content for r in plain.records] in ([b"good"], [b"whole"])
        assert plain.end < len(stream)
        for start, end in ((plain.start, plain.end + 1), (plain.start - 1, plain.end)):
            for known in (plain.host_bytes, plain.wire_bytes):
                with pytest.raises(ValueError, match="not known"):
                    known(start, end)


def test_keys_and_no_record():
    """A direction that never sent: keys, and nothing known."""
    tls = Tls13()
    plain, _ = directions_of(tls.flights, tls.keylog_text)["s2c"]
    assert plain.start == plain.end and plain.records == [] and plain.first_nonce == b""
    assert plain.host_bytes(plain.start, plain.end) == b""


def test_records_in_front_of_the_keys_are_none():
    """Records under handshake keys are not the kernel's."""
    tls = Tls13()
    tls.write("s2c", tls.server.seal(b"first"))
    packets = packets_of(tls.flights)
    (truth,) = decode_capture(packets, Keylog.parse(tls.keylog_text))
    plain = PlainDirection(truth["s2c"])
    early = [r for r in truth["s2c"].records if r.offset < plain.start]
    assert early and all(r.outcome is Outcome.OK for r in early)
    assert [r.content for r in plain.records] == [b"first"] and plain.first_keys.number == 0
