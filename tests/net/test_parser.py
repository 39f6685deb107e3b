# SPDX-License-Identifier: Apache-2.0
"""The parser's model against packets built with dpkt, and its refusals one by one."""

import dpkt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealane.driver.net.parser import Parsed, parse
from sealane.hdl.abi.commands import FLOW_KEY
from sealane.hdl.abi.config import Config
from tests.support.internet_checksum import ones_complement_sum

CONFIG = Config()
MACS = bytes(range(12))
SRC4, DST4 = bytes([10, 9, 0, 2]), bytes([10, 9, 0, 1])
SRC6, DST6 = bytes(range(0x20, 0x30)), bytes(range(0x40, 0x50))


def tcp(data=b"payload", options=b"", flags=0x18):
    segment = dpkt.tcp.TCP(
        sport=40000, dport=443, seq=0x01020304, flags=flags, data=data, opts=options
    )
    segment.off = 5 + len(options) // 4
    return segment


def ipv4(segment, options=b""):
    packet = dpkt.ip.IP(src=SRC4, dst=DST4, p=6, opts=options, data=segment)
    packet.len, packet.hl = len(packet), 5 + len(options) // 4
    return bytes(packet)


def with_checksum6(segment):
    """The segment's bytes with the checksum that dpkt computes in a packet without extensions."""
    packet = dpkt.ip6.IP6(src=SRC6, dst=DST6, nxt=6, plen=len(segment), data=segment)
    return bytes(packet)[40:]


def ipv6(segment, extensions=()):
    """extensions: (next header number, bytes behind the next-header byte)."""
    body, next_header = with_checksum6(segment), 6
    for number, rest in reversed(extensions):
        body, next_header = bytes([next_header]) + rest + body, number
    length = len(body).to_bytes(2, "big")
    return b"\x60\0\0\0" + length + bytes([next_header, 64]) + SRC6 + DST6 + body


def frame(packet, tags=b"", padding=b""):
    ethertype = b"\x08\x00" if packet[0] >> 4 == 4 else b"\x86\xdd"
    return MACS + tags + ethertype + packet + padding


def refused(whole, may_be_tcp=True):
    """What the parser says of a frame that is not a whole segment."""
    return Parsed(frame_bytes=len(whole), refused_tcp=may_be_tcp)


OPTIONS = bytes([1, 1, 8, 10]) + bytes(8)
TAGS = (
    b"",
    b"\x81\x00\x00\x05",
    b"\x88\xa8\x00\x05\x81\x00\x20\x07",
    b"\x91\x00\x00\x01\x91\x00\x00\x02",
)
HOP = (0, b"\x00" + bytes(6))
ROUTE_DONE = (43, b"\x02\x04\x00" + bytes(20))
ROUTE_LEFT = (43, b"\x02\x04\x01" + bytes(20))
DEST = (60, b"\x01" + bytes(14))
FRAGMENT = (44, bytes(7))
AH = (51, b"\x04" + bytes(22))


@pytest.mark.parametrize("tags", TAGS, ids=["plain", "802.1Q", "802.1ad", "9100"])
@pytest.mark.parametrize("tcp_options", [b"", OPTIONS, bytes(40)])
@pytest.mark.parametrize("length", [0, 1, 2, 15, 1448])
@pytest.mark.parametrize("ip_options", [b"", b"\x01" * 4, b"\x01" * 40])
def test_ipv4(tags, tcp_options, length, ip_options):
    data = bytes(i & 255 for i in range(length))
    whole = frame(ipv4(tcp(data, tcp_options), ip_options), tags, bytes(6))
    got = parse(whole, CONFIG)
    tcp_offset = 14 + len(tags) + 20 + len(ip_options)
    offset = tcp_offset + 20 + len(tcp_options)
    key = {
        "src": int.from_bytes(SRC4, "big"),
        "dst": int.from_bytes(DST4, "big"),
        "sport": 40000,
        "dport": 443,
    }
    field = whole[tcp_offset + 16 : tcp_offset + 18]
    assert got == Parsed(
        is_tcp=True,
        frame_bytes=len(whole),
        checksum_ok=True,
        key=FLOW_KEY.pack(key),
        **key,
        seq=0x01020304,
        tcp_flags=0x18,
        payload_offset=offset,
        payload_length=length,
        tcp_offset=tcp_offset,
        tcp_checksum=int.from_bytes(field, "little"),
        segment_sum=0xFFFF,
    )


@pytest.mark.parametrize("field", [0, 1, 0x1234, 0xFFFE, 0xFFFF])
@pytest.mark.parametrize("length", [6, 7])
def test_segment_sum(field, length):
    """With any checksum field the sum is that of pseudo-header and segment, first byte low."""
    data = bytes(range(200, 200 + length))
    right = ipv4(tcp(data))
    packet = right[:36] + field.to_bytes(2, "little") + right[38:]
    got = parse(frame(packet), CONFIG)
    segment = packet[20:]
    pseudo = SRC4 + DST4 + b"\0\6" + len(segment).to_bytes(2, "big")
    total = ones_complement_sum(pseudo + segment).to_bytes(2, "big")
    assert (got.tcp_checksum, got.segment_sum) == (field, int.from_bytes(total, "little"))
    # The right field, out of what the device knows (RFC 1624).
    rest = got.segment_sum + (field ^ 0xFFFF)
    rest = (rest & 0xFFFF) + (rest >> 16)
    assert (rest ^ 0xFFFF).to_bytes(2, "little") == right[36:38]


@pytest.mark.parametrize("tags", TAGS, ids=["plain", "802.1Q", "802.1ad", "9100"])
@pytest.mark.parametrize(
    "extensions", [(), (HOP,), (ROUTE_DONE,), (DEST,), (HOP, DEST, ROUTE_DONE, DEST)]
)
def test_ipv6(tags, extensions):
    got = parse(frame(ipv6(tcp(), extensions), tags), CONFIG)
    size = sum(1 + len(rest) for _, rest in extensions)
    assert got.is_tcp and got.checksum_ok and got.ipv6
    assert (got.src, got.dst) == (int.from_bytes(SRC6, "big"), int.from_bytes(DST6, "big"))
    assert (got.payload_offset, got.payload_length) == (14 + len(tags) + 40 + size + 20, 7)
    assert FLOW_KEY.unpack(got.key) == {
        "src": got.src,
        "dst": got.dst,
        "sport": 40000,
        "dport": 443,
        "ipv6": 1,
    }


@pytest.mark.parametrize(
    ("extensions", "may_be_tcp"),
    [
        ((ROUTE_LEFT,), True),
        ((FRAGMENT,), True),
        ((HOP, FRAGMENT), True),
        ((FRAGMENT, DEST), True),
        ((FRAGMENT, AH), False),
        ((AH,), False),
        (((59, bytes(7)),), False),
    ],
)
def test_ipv6_refused(extensions, may_be_tcp):
    whole = frame(ipv6(tcp(), extensions))
    assert parse(whole, CONFIG) == refused(whole, may_be_tcp)


def edit(packet, at, value):
    return packet[:at] + bytes([value]) + packet[at + 1 :]


@pytest.mark.parametrize(
    ("at", "value"),
    [
        (0, 0x65),  # version
        (0, 0x44),  # IHL below 5
        (6, 0x20),  # more fragments
        (7, 1),  # fragment offset
        (9, 17),  # UDP
        (3, 48),  # longer than the frame
        (3, 39),  # no room for the TCP header
        (32, 0x40),  # data offset below 5
        (32, 0x70),  # data offset behind the segment
    ],
)
def test_ipv4_field_refused(at, value):
    whole = frame(ipv4(tcp()))
    assert parse(whole, CONFIG).is_tcp
    may_be_tcp = (at, value) not in ((0, 0x65), (9, 17))
    assert parse(edit(whole, 14 + at, value), CONFIG) == refused(whole, may_be_tcp)


@pytest.mark.parametrize(
    ("at", "value"),
    [
        (0, 0x40),  # version
        (5, 0),  # jumbogram
        (5, 27),  # the extension header fits, the TCP header does not
        (41, 255),  # extension header longer than the frame
    ],
)
def test_ipv6_field_refused(at, value):
    whole = frame(ipv6(tcp(), (HOP,)))
    assert parse(whole, CONFIG).is_tcp
    # Where the chain of headers leaves the frame, nothing of a segment is in it.
    assert parse(edit(whole, 14 + at, value), CONFIG) == refused(whole, at == 5)


def test_three_tags_refused():
    whole = frame(ipv4(tcp()), b"\x81\x00\x00\x05" * 3)
    assert parse(whole, CONFIG) == refused(whole, False)


@pytest.mark.parametrize("at", [8, 20, 21, 24, 38, 46])
def test_bad_checksum(at):
    packet = ipv4(tcp())
    got = parse(frame(edit(packet, at, packet[at] ^ 0x10)), CONFIG)
    assert got.is_tcp and not got.checksum_ok


@pytest.mark.parametrize(
    ("packet", "named_at"), [(ipv4(tcp()), 20), (ipv6(tcp(), (HOP, DEST)), 40 + 8 + 16 + 8)]
)
def test_every_truncation(packet, named_at):
    whole = frame(packet)
    for length in range(len(whole)):
        part = whole[:length]
        assert parse(part, CONFIG) == refused(part, length >= 14 + named_at)


def test_oversize():
    config = Config(max_frame=100)
    whole = frame(ipv4(tcp(bytes(46))))
    assert len(whole) == 100 and parse(whole, config).is_tcp
    assert parse(whole + b"\0", config) == Parsed(oversize=True)


@given(st.binary(max_size=120))
def test_junk_never_raises(junk):
    parse(junk, CONFIG)
