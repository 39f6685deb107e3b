# SPDX-License-Identifier: Apache-2.0
"""Capture files and key logs: every variant, and what is broken in them."""

import gzip
import io
import struct

import dpkt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealane.driver.replay.capture import CaptureError, parse_capture, read_capture
from sealane.driver.tls.keylog import Keylog, KeylogError

FRAMES = [bytes([i]) * (60 + i) for i in range(5)]


def pcap(order="<", nano=False, linktype=1, frames=FRAMES, original=None):
    out = struct.pack(
        order + "IHHiIII", 0xA1B23C4D if nano else 0xA1B2C3D4, 2, 4, 0, 0, 65535, linktype
    )
    for i, frame in enumerate(frames):
        fraction = 250_000_000 if nano else 250_000
        size = len(frame)
        out += struct.pack(order + "IIII", 100 + i, fraction, size, original or size) + frame
    return out


def block(order, kind, body):
    body += bytes(-len(body) % 4)
    size = struct.pack(order + "I", 12 + len(body))
    return struct.pack(order + "I", kind) + size + body + size


def section(order):
    return block(order, 0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1))


def interface(order="<", linktype=1, resolution=None, offset=None):
    body = struct.pack(order + "HHI", linktype, 0, 0)
    if resolution is not None:
        body += struct.pack(order + "HHB3x", 9, 1, resolution)
    if offset is not None:
        body += struct.pack(order + "HHq", 14, 8, offset)
    return block(order, 1, body + bytes(4))


def enhanced(frame, ticks, number=0, order="<"):
    size = len(frame)
    return block(
        order,
        6,
        struct.pack(order + "IIIII", number, ticks >> 32, ticks & 0xFFFFFFFF, size, size) + frame,
    )


def contents(capture):
    return [packet.frame for packet in capture.packets]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("nano", [False, True])
@pytest.mark.parametrize("zipped", [False, True])
def test_pcap(order, nano, zipped, tmp_path):
    data = pcap(order, nano)
    path = tmp_path / "named.txt"
    path.write_bytes(gzip.compress(data) if zipped else data)
    capture = read_capture(path)
    assert contents(capture) == FRAMES and not capture.warnings
    assert [packet.time for packet in capture.packets] == [100.25 + i for i in range(5)]
    assert [packet.index for packet in capture.packets] == list(range(5))


def test_original_length_and_check_sequence():
    capture = parse_capture(pcap(original=1500))
    assert capture.packets[0].original_length == 1500
    # Link type 1 with the flag and length (in 16-bit words) of a frame check sequence.
    capture = parse_capture(pcap(linktype=1 | 1 << 26 | 2 << 28))
    assert contents(capture) == [frame[:-4] for frame in FRAMES]


@pytest.mark.parametrize("order", ["<", ">"])
def test_pcapng_sections_and_interfaces(order):
    data = section(order) + interface(order) + interface(order, resolution=9, offset=1000)
    data += enhanced(b"a" * 61, 2_500_000, 0, order) + enhanced(b"b" * 60, 1_500_000_000, 1, order)
    data += block(order, 4, b"names") + interface(order, resolution=0x80 | 4)
    data += enhanced(b"c" * 60, 24, 2, order)
    data += block(order, 3, struct.pack(order + "I", 60) + b"d" * 60)
    other = ">" if order == "<" else "<"
    data += section(other) + interface(other, linktype=113) + interface(other)
    data += enhanced(b"x" * 60, 1, 0, other) + enhanced(b"e" * 60, 1_000_000, 1, other)
    capture = parse_capture(data)
    assert contents(capture) == [b"a" * 61, *(c * 60 for c in (b"b", b"c", b"d", b"e"))]
    assert [packet.time for packet in capture.packets] == [2.5, 1001.5, 1.5, 0, 1]
    assert len(capture.warnings) == 1 and "not Ethernet" in capture.warnings[0]


def test_pcapng_of_dpkt():
    file = io.BytesIO()
    writer = dpkt.pcapng.Writer(file)
    for i, frame in enumerate(FRAMES):
        writer.writepkt_time(frame, 5.5 + i)
    capture = parse_capture(file.getvalue())
    assert contents(capture) == FRAMES
    assert [packet.time for packet in capture.packets] == [5.5 + i for i in range(5)]


@pytest.mark.parametrize(
    "data",
    [
        pcap(),
        section("<") + interface() + b"".join(enhanced(f, 1) for f in FRAMES),
    ],
)
@pytest.mark.parametrize("zipped", [False, True])
def test_cut_anywhere(data, zipped):
    """What is whole is kept, in the order of the file, and a warning tells of the rest."""
    whole = gzip.compress(data) if zipped else data
    for size in range(len(whole)):
        try:
            capture = parse_capture(whole[:size])
        except CaptureError:
            assert size < len(whole) - sum(map(len, FRAMES)) or zipped
            continue
        got = contents(capture)
        assert got == FRAMES[: len(got)]
        assert len(got) == 5 or capture.warnings or not zipped


@given(st.binary(max_size=300), st.sampled_from([b"", pcap()[:24], section("<"), b"\x1f\x8b\x08"]))
def test_junk(junk, beginning):
    try:
        parse_capture(beginning + junk)
    except CaptureError as error:
        assert "\n" not in str(error)


def test_damaged_in_the_middle():
    data = bytearray(pcap())
    data[24 + 16 + 60 + 8 : 24 + 16 + 60 + 12] = b"\xff\xff\xff\x7f"
    capture = parse_capture(bytes(data))
    assert contents(capture) == FRAMES[:1] and "broken packet header" in capture.warnings[0]
    zipped = bytearray(gzip.compress(pcap(frames=[bytes(range(256)) * 200] * 9), 0))
    zipped[-4000:] = b"\xff" * 4000
    assert parse_capture(bytes(zipped)).warnings


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "empty"),
        (b"GIF89a", "neither"),
        (pcap(linktype=113), "113 is not Ethernet"),
        (pcap()[:20], "cut short"),
        (gzip.compress(b"", mtime=0), "empty"),
        (b"\x1f\x8b\x08" + b"\xff" * 9, "gzip"),
        (section("<")[:20], "cut short"),
        (
            section("<") + interface(linktype=101) + enhanced(b"x" * 60, 1),
            "no interface is Ethernet",
        ),
    ],
    ids=[
        "empty",
        "gif",
        "linktype",
        "short pcap",
        "empty gzip",
        "bad gzip",
        "short pcapng",
        "no Ethernet",
    ],
)
def test_errors(data, text, tmp_path):
    path = tmp_path / "x.pcap"
    path.write_bytes(data)
    with pytest.raises(CaptureError, match=text) as error:
        read_capture(path)
    assert "\n" not in str(error.value)


def test_no_such_file(tmp_path):
    with pytest.raises(CaptureError, match="No such file"):
        read_capture(tmp_path / "none")
    with pytest.raises(CaptureError):
        read_capture(tmp_path)
    with pytest.raises(KeylogError, match="No such file"):
        Keylog.read(tmp_path / "none")


GOOD = f"CLIENT_RANDOM {'ab' * 32} {'cd' * 48}"


def test_keylog_lines(tmp_path):
    path = tmp_path / "keys"
    path.write_bytes(
        b"\xef\xbb\xbf# comment\r\n\n"
        + GOOD.encode()
        + b"\r\n"
        + "\n".join(
            [
                f"CLIENT_TRAFFIC_SECRET_0 {'AB' * 32} {'EF' * 32}",
                f"SERVER_TRAFFIC_SECRET_0 {'ab' * 32} {'12' * 48}",
                f"CLIENT_TRAFFIC_SECRET_N {'ab' * 32} {'ef' * 32}",
                f"SERVER_TRAFFIC_SECRET_1 {'ab' * 32} {'ef' * 32}",
                f"EXPORTER_SECRET {'ab' * 32} {'ef' * 32}",
                f"CLIENT_RANDOM {'ab' * 32} {'cd' * 47}",  # junk from here on
                f"CLIENT_RANDOM {'ab' * 31} {'cd' * 48}",
                f"CLIENT_RANDOM {'zz' * 32} {'cd' * 48}",
                "CLIENT_RANDOM",
                "garbage",
                f"NO_LABEL {'ab' * 32} {'cd' * 48}",
                "\x00\xff\u0660",
            ]
        ).encode()
    )
    log = Keylog.read(path)
    assert len(log) == 3 and log.ignored == 7
    random = b"\xab" * 32
    assert log.secret("CLIENT_RANDOM", random) == b"\xcd" * 48
    assert log.secret("CLIENT_TRAFFIC_SECRET_0", random) == b"\xef" * 32
    assert log.secret("CLIENT_RANDOM", bytes(32)) is None
    assert "cd" * 8 not in repr(log)


@pytest.mark.parametrize("text", ["", "# only comments\n", "garbage\n", GOOD[:-2]])
def test_keylog_without_a_usable_line(text, tmp_path):
    path = tmp_path / "keys"
    path.write_text(text)
    with pytest.raises(KeylogError, match="no usable line") as error:
        Keylog.read(path)
    assert "cd" * 8 not in str(error.value)


@given(st.binary(max_size=300))
def test_keylog_junk(junk):
    Keylog.parse(junk.decode("latin-1"))
