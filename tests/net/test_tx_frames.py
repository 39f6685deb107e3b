# SPDX-License-Identifier: Apache-2.0
"""Frames of the host: taken apart, put together, checksums against an independent sum."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealane.driver.net.tx_frames import (
    Segment,
    dump_pieces,
    host_frame,
    place_tags,
    split,
    wire_frame,
)
from tests.support import tcp_frames
from tests.support.internet_checksum import checksum
from tests.support.tcp_frames import ACK, FIN, PSH, Peer, Wire

SIX = Wire(Peer("2001:db8::2", 40000, 1000), Peer("2001:db8::1", 443, 0xFFFF_F000))
WIRES = [tcp_frames.DEFAULT, Wire(vlans=(5, 7), timestamps=False), SIX]
IDS = ["ipv4", "vlans", "ipv6"]


def sent(path: Wire, payload: bytes, offset: int = 0, flags: int = ACK | PSH) -> bytes:
    """The frame with `payload` as its sender would finish it."""
    return tcp_frames.Segment("c2s", offset, payload, flags).frame(path)


@pytest.mark.parametrize("path", WIRES, ids=IDS)
@pytest.mark.parametrize("length", [*range(40), 1448])
def test_a_wire_frame_is_what_the_sender_would_have_finished(path, length):
    payload = bytes(7 * i & 255 for i in range(length))
    frame = sent(path, payload)
    segment = split(frame)
    assert segment.payload == payload and not segment.fin
    assert segment.seq == path.client.isn + 1
    again = wire_frame(segment.head, payload)
    # The sender's frame may have padding of the link behind the IP packet.
    assert again == frame[: len(again)] and len(segment.head) + length == len(again)
    plain = bytes(length)
    assert wire_frame(split(host_frame(segment.head, plain)).head, payload) == again


@pytest.mark.parametrize("path", WIRES, ids=IDS)
def test_a_host_frame_leaves_the_sum_to_the_card(path):
    """Linux's CHECKSUM_PARTIAL: adding the segment to the field gives the checksum."""
    payload = b"odd"
    frame = sent(path, payload)
    segment = split(frame)
    partial = host_frame(segment.head, b"xyz")
    tcp = segment.head.rindex(b"\x9c\x40\x01\xbb")  # the ports
    at = tcp + 16
    assert partial[:at] + partial[at + 2 :] == segment.head[:at] + segment.head[at + 2 :] + b"xyz"
    value = checksum(partial[tcp:])
    finished = partial[:at] + value.to_bytes(2, "big") + partial[at + 2 :]
    assert finished == wire_frame(segment.head, b"xyz") == sent(path, b"xyz")[: len(finished)]


def test_a_sum_of_zero_is_written_as_zero():
    """RFC 1071: 0 and 0xFFFF are both zero; the frame must be the one that Linux would send."""
    segment = split(sent(tcp_frames.DEFAULT, bytes(2)))
    at = len(segment.head) - 32 + 16
    value = int.from_bytes(wire_frame(segment.head, bytes(2))[at : at + 2], "big")
    assert value not in (0, 0xFFFF)
    zero = wire_frame(segment.head, value.to_bytes(2, "big"))
    assert zero[at : at + 2] == b"\0\0"


def test_a_fin_is_seen():
    assert split(sent(tcp_frames.DEFAULT, b"last", flags=ACK | FIN)).fin
    assert split(sent(tcp_frames.DEFAULT, b"", flags=ACK | FIN)) == Segment(
        sent(tcp_frames.DEFAULT, b"", flags=ACK | FIN),
        1001,
        b"",
        ACK | FIN,
        split(sent(tcp_frames.DEFAULT, b"")).key,
    )


def test_what_is_no_segment_is_refused():
    with pytest.raises(ValueError, match="TCP"):
        split(bytes(60))
    segment = split(sent(tcp_frames.DEFAULT, b"four"))
    for payload in (b"", b"abc", b"abcde"):
        with pytest.raises(ValueError):
            host_frame(segment.head, payload)
        with pytest.raises(ValueError):
            wire_frame(segment.head, payload)
    with pytest.raises(ValueError):
        host_frame(segment.head[:30], b"four")


@given(st.integers(0, 2**32 - 1), st.binary(max_size=400), st.integers(1, 100))
def test_dump_pieces(seq, payload, mtu):
    pieces = dump_pieces(seq, payload, mtu)
    assert b"".join(piece for _, piece in pieces) == payload
    assert all(0 < len(piece) <= mtu for _, piece in pieces)
    at = seq
    for place, piece in pieces:
        assert place == at % 2**32
        at += len(piece)


def test_dump_pieces_wrap_and_refuse():
    assert dump_pieces(0xFFFFFFFE, b"abcdef", 4) == [(0xFFFFFFFE, b"abcd"), (2, b"ef")]
    assert dump_pieces(5, b"", 4) == []
    with pytest.raises(ValueError, match="mtu"):
        dump_pieces(5, b"a", 0)


@given(st.binary(max_size=60), st.lists(st.tuples(st.integers(-40, 80), st.binary(max_size=16))))
def test_tags_go_where_their_room_is(payload, tags):
    expected = list(payload)
    for at, tag in tags:
        for i, byte in enumerate(tag, at):
            if 0 <= i < len(payload):
                expected[i] = byte
    assert place_tags(payload, tags) == bytes(expected)


@pytest.mark.parametrize("vlans", [(), (7,), (7, 8)])
def test_an_ipv4_checksum_that_is_left_out_is_filled_in(vlans):
    """Some stacks leave it to the card, which has none to fill in for a frame of transmit."""
    whole = sent(Wire(vlans=vlans), bytes(range(40)))
    at = 14 + 4 * len(vlans) + 10
    assert whole[at : at + 2] != bytes(2)
    segment = split(whole[:at] + bytes(2) + whole[at + 2 :])
    assert wire_frame(segment.head, segment.payload) == whole
    for head in (segment.head, split(whole).head):
        assert host_frame(head, segment.payload)[: at + 2] == whole[: at + 2]
    wrong = whole[:at] + b"\1\2" + whole[at + 2 :]  # what is there is the stack's business
    assert host_frame(split(wrong).head, segment.payload)[at : at + 2] == b"\1\2"


def test_the_checksum_field_does_not_matter_to_the_makers():
    """A head that was taken from a finished frame and one from the stack give the same."""
    frame = sent(tcp_frames.DEFAULT, b"body")
    finished = split(frame)
    left = split(host_frame(finished.head, b"body"))
    assert left.head != finished.head
    assert host_frame(left.head, b"BODY") == host_frame(finished.head, b"BODY")
    assert wire_frame(left.head, b"BODY") == wire_frame(finished.head, b"BODY")
