# SPDX-License-Identifier: Apache-2.0
"""TCP reassembly and which connection a segment is of, through real frames."""

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealane.driver.net.parser import parse
from sealane.driver.net.tcp import ConnectionTable, Endpoint, Stream
from sealane.driver.replay.oracle import HOST
from tests.support.tcp_frames import (
    ACK,
    DEFAULT,
    FIN,
    RST,
    SYN,
    Peer,
    Segment,
    conversation,
    impair,
    random_cut,
)

BOTH = ("c2s", "s2c")


class Host:
    """A connection table that keeps every connection's streams and checks the pieces."""

    def __init__(self):
        self.table = ConnectionTable()
        self.streams = []
        self.packet = 0
        self.sent = {}

    def frame(self, frame):
        parsed = parse(frame, HOST)
        segment = self.table.accept(self.packet, parsed, frame)
        self.packet += 1
        while len(self.streams) < len(self.table.connections):
            self.streams.append({d: b"" for d in BOTH})
        if segment is not None:
            index = segment.connection.index
            self.sent[self.packet - 1] = segment
            for piece in segment.pieces:
                stream = self.streams[index][segment.direction]
                assert piece.data and piece.offset == len(stream)
                source = self.sent[piece.packet]
                assert source.offset <= piece.offset
                assert piece.end <= source.offset + source.length
                self.streams[index][segment.direction] = stream + piece.data
        return segment

    def play(self, segments, path=DEFAULT):
        return [self.frame(segment.frame(path)) for segment in segments]


def flights(seed=1, count=30):
    chance = random.Random(seed)
    return [(chance.choice(BOTH), chance.randbytes(chance.randint(1, 6000))) for _ in range(count)]


def streams_of(written):
    return {d: b"".join(data for e, data in written if e == d) for d in BOTH}


PATHS = {
    "plain": DEFAULT,
    "wraps": replace(
        DEFAULT,
        client=Peer("10.9.0.2", 40000, 0xFFFFFFFF),
        server=Peer("10.9.0.1", 443, 0xFFFFD000),
    ),
    "ipv6 in two tags": replace(
        DEFAULT, client=Peer("fd00::2", 40000, 5), server=Peer("fd00::1", 443, 77), vlans=(5, 6)
    ),
    "no timestamps": replace(DEFAULT, timestamps=False),
}


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
@pytest.mark.parametrize("seed", range(3))
def test_streams_over_a_bad_path(path, seed):
    written = flights(seed)
    segments = conversation(written, path, random_cut(seed))
    host = Host()
    host.play(impair(segments, seed, 0.1, 0.1, 0.1), path)
    assert host.streams == [streams_of(written)]
    connection = host.table.connections[0]
    assert connection.has_syn and connection.closed
    assert (connection.client.host, connection.client.port) == (path.client.address, 40000)


@given(st.data())
def test_stream_keeps_the_first_of_every_byte(data):
    """Against a plain map of bytes: in any order, with any overlaps and conflicts."""
    stream, kept, out = Stream(), {}, b""
    stream.accept(99, b"", SYN, 0)
    for packet in range(data.draw(st.integers(1, 25))):
        start, length = data.draw(st.integers(-5, 60)), data.draw(st.integers(0, 25))
        payload = bytes([packet]) * length
        for piece in stream.accept((100 + start) % (1 << 32), payload, ACK, packet):
            assert piece.offset == len(out)
            assert piece.data == bytes([piece.packet]) * len(piece.data)
            out += piece.data
        for i in range(max(start, 0), start + length):
            kept.setdefault(i, packet)
        expected = bytearray()
        while len(expected) in kept:
            expected.append(kept[len(expected)])
        assert out == bytes(expected)
        assert stream.waiting_bytes == len(kept) - len(out)


def test_bad_checksums_and_other_frames_never_get_in():
    host = Host()
    host.play(conversation([], fin=False))
    forged = Segment("c2s", 0, b"forged").frame(DEFAULT, bad_checksum=True)
    assert host.frame(forged) is None and host.frame(b"\xff" * 60) is None
    host.play([Segment("c2s", 0, b"real")])
    assert host.streams[0]["c2s"] == b"real"


def test_segments_out_of_the_window_change_nothing():
    host = Host()
    host.play(conversation([], fin=False))
    host.play([Segment("c2s", offset, b"far") for offset in (1 << 25, 1 << 31, -(1 << 30), -3)])
    host.play([Segment("c2s", 1 << 30, b"", RST | ACK), Segment("c2s", 1, b"", RST)])
    host.play([Segment("c2s", 0, b"near")])
    assert host.streams[0]["c2s"] == b"near"
    stream = host.table.connections[0].streams["c2s"]
    assert stream.ignored == 4 and not stream.reset and stream.waiting_bytes == 0


def test_nothing_behind_fin_and_rst():
    host = Host()
    host.play(conversation([], fin=False))
    host.play(
        [
            Segment("c2s", 4, b"XX"),
            Segment("c2s", 2, b"cd", FIN | ACK),
            Segment("c2s", 0, b"ab"),
            Segment("c2s", 4, b"YY"),
        ]
    )
    assert host.streams[0]["c2s"] == b"abcd"
    host.play([Segment("s2c", 0, b"a"), Segment("s2c", 1, b"", RST), Segment("s2c", 1, b"b")])
    assert host.streams[0]["s2c"] == b"a"
    assert host.table.connections[0].closed


def test_data_in_the_syn():
    host = Host()
    host.play(
        [
            Segment("c2s", -1, b"fast ", SYN),
            Segment("s2c", -1, b"", SYN | ACK),
            Segment("c2s", 5, b"open"),
        ]
    )
    assert host.streams[0]["c2s"] == b"fast open"


def isn(path, value):
    return replace(
        path, client=replace(path.client, isn=value), server=replace(path.server, isn=value + 777)
    )


def test_ports_used_again():
    host = Host()
    written = [flights(seed, 4) for seed in range(3)]
    for i, some in enumerate(written):
        host.play(
            conversation(some, isn(DEFAULT, i * 1_000_000_000)), isn(DEFAULT, i * 1_000_000_000)
        )
        host.play(conversation([])[:1], isn(DEFAULT, 0))  # a late copy of the first SYN
    assert host.streams == [streams_of(some) for some in written]


def test_late_segments_of_the_old_connection():
    host = Host()
    old, new = isn(DEFAULT, 10), isn(DEFAULT, 2_000_000_000)
    host.play(conversation([("c2s", b"old"), ("s2c", b"old")]), old)
    host.play(conversation([])[:1], new)
    host.play([Segment("s2c", 3, b"", FIN | ACK), Segment("c2s", 3, b"", ACK)], old)
    host.play(conversation([("c2s", b"new"), ("s2c", b"answer")])[1:], new)
    assert host.streams[1] == {"c2s": b"new", "s2c": b"answer"}


def test_syn_retransmitted_and_forged():
    host = Host()
    segments = conversation([("c2s", b"abc"), ("s2c", b"def")], fin=False)
    host.play(segments[:1] + segments[:1] + segments[:4] + segments[:1])
    # A SYN into the middle of an open connection is somebody else's until it is answered.
    host.play(segments[:1], isn(DEFAULT, 123_456_789))
    host.play(segments[4:])
    assert host.streams == [{"c2s": b"abc", "s2c": b"def"}]


def test_new_connection_although_the_old_one_never_closed():
    host = Host()
    new = isn(DEFAULT, 123_456_789)
    host.play(conversation([("c2s", b"old")], fin=False))
    host.play(conversation([("c2s", b"new"), ("s2c", b"x")], fin=False), new)
    assert [s["c2s"] for s in host.streams] == [b"old", b"new"]
    assert host.table.connections[1].has_syn


def test_unanswered_syn_and_another():
    host = Host()
    host.play(conversation([])[:1])
    host.play(conversation([("c2s", b"new")]), isn(DEFAULT, 5555))
    assert [s["c2s"] for s in host.streams] == [b"", b"new"]


@pytest.mark.parametrize("first", [0, 1, 2, 3])
def test_without_syn(first):
    """In mid-stream the first packet indexes the connection; servers have the known ports."""
    segments = conversation([("c2s", b"abc"), ("s2c", b"def")])[2:]
    host = Host()
    host.play(segments[first:])
    connection = host.table.connections[0]
    assert not connection.has_syn and connection.client.port == 40000
    assert host.streams[0]["s2c"] == b"def"


def test_syn_ack_before_syn():
    host = Host()
    segments = conversation([("c2s", b"abc"), ("s2c", b"def")])
    host.play([segments[1], segments[0], *segments[2:]])
    assert host.streams == [{"c2s": b"abc", "s2c": b"def"}]
    assert host.table.connections[0].has_syn


def test_reset_of_nothing_is_no_connection():
    host = Host()
    assert host.play([Segment("c2s", 0, b"", RST)]) == [None]
    assert Endpoint(False, 0x0A090002, 1).host == "10.9.0.2"
