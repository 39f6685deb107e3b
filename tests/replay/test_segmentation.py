# SPDX-License-Identifier: Apache-2.0
"""Frames longer than a card takes, cut as a stack cuts them: dpkt reads what comes out."""

from dataclasses import replace

import dpkt
import pytest

from sealane.driver.net.parser import parse
from sealane.driver.replay.capture import Packet
from sealane.driver.replay.oracle import HOST
from sealane.driver.replay.segmentation import cut, cut_long
from tests.support.tcp_frames import ACK, DEFAULT, FIN, PSH, Peer, Segment

CWR = 0x80
IPV6 = replace(DEFAULT, client=Peer("fd00::2", 40000, 0xFFFF_F000), server=Peer("fd00::1", 443))
IPV4 = replace(DEFAULT, client=Peer("10.9.0.2", 40000, 0xFFFF_F000))


@pytest.mark.parametrize("vlans", [(), (5, 6)])
@pytest.mark.parametrize("path", [IPV4, IPV6])
@pytest.mark.parametrize("size", [1, 1428, 1448, 1449, 65_000])
def test_cut(size, path, vlans):
    """Every byte once, in order; good checksums, and flags where they belong."""
    path = replace(path, vlans=vlans)
    payload = bytes(i * 7 % 256 for i in range(size))
    whole = Segment("c2s", 100, payload, ACK | PSH | FIN | CWR, 5).frame(path)
    frames = cut(whole, parse(whole, HOST))
    heads = [parse(frame, HOST) for frame in frames]
    room = 1500 - 32 - (40 if ":" in path.client.address else 20)
    assert len(frames) == -(-size // room)
    assert all(head.checksum_ok for head in heads)
    got = b"".join(
        f[h.payload_offset : h.payload_offset + h.payload_length]
        for f, h in zip(frames, heads, strict=True)
    )
    assert got == payload
    seqs = [(head.seq - heads[0].seq) % (1 << 32) for head in heads]
    assert heads[0].seq == parse(whole, HOST).seq
    assert seqs == list(range(0, size, room))
    flags = [head.tcp_flags for head in heads]
    assert all(bool(f & CWR) == (i == 0) for i, f in enumerate(flags))
    assert all(bool(f & (FIN | PSH)) == (i == len(flags) - 1) for i, f in enumerate(flags))
    assert all(f & ACK for f in flags)
    packets = [dpkt.ethernet.Ethernet(frame).data for frame in frames]
    if ":" not in path.client.address:
        first = dpkt.ethernet.Ethernet(whole).data.id
        assert [ip.id for ip in packets] == [first + i for i in range(len(frames))]


def test_what_is_cut():
    """Sound TCP segments that are too long, and nothing else."""
    long = Segment("c2s", 0, bytes(10_000))
    frames = [
        Segment("c2s", 0, bytes(1000)).frame(IPV4),
        long.frame(IPV4),
        long.frame(IPV4, True),
        bytes(10_000),
        b"",
    ]
    packets = [Packet(i, i / 2, f, len(f)) for i, f in enumerate(frames)]
    heads = [parse(f, HOST) for f in frames]
    out, parsed, first = cut_long(packets, heads, HOST, 9234)
    assert first == [0, 1, 8, 9, 10, 11]
    assert [p.index for p in out] == [0, *[1] * 7, 2, 3, 4]
    assert [p.time for p in out[:9]] == [0.0, *[0.5] * 7, 1.0]
    assert all(len(p.frame) <= 1514 for p in out[:8])
    assert [p.frame for p in (out[0], *out[8:])] == [frames[0], *frames[2:]]
    assert parsed == [parse(p.frame, HOST) for p in out]
