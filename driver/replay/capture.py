# SPDX-License-Identifier: Apache-2.0
"""Reads Ethernet frames out of pcap and pcapng files, plain or compressed with gzip.

Formats: draft-ietf-opsawg-pcap, draft-ietf-opsawg-pcapng. dpkt, which writes the captures of the
tests, reads one interface, drops what is behind a cut block and knows no original lengths; hence
this reader. A file that is cut short gives what is whole, and a warning.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

LINKTYPE_ETHERNET = 1
MAX_FRAME = 1 << 18  # libpcap's MAXIMUM_SNAPLEN; more is a broken length field

# Magic number as it lies in the file: byte order, seconds a tick.
_PCAP_MAGICS = {
    b"\xd4\xc3\xb2\xa1": ("<", 1_000_000),
    b"\xa1\xb2\xc3\xd4": (">", 1_000_000),
    b"\x4d\x3c\xb2\xa1": ("<", 1_000_000_000),
    b"\xa1\xb2\x3c\x4d": (">", 1_000_000_000),
}
_SECTION, _INTERFACE, _PACKET, _SIMPLE, _ENHANCED = 0x0A0D0D0A, 1, 2, 3, 6
_BYTE_ORDERS = {b"\x4d\x3c\x2b\x1a": "<", b"\x1a\x2b\x3c\x4d": ">"}
_OPT_TSRESOL, _OPT_TSOFFSET = 9, 14


class CaptureError(Exception):
    """A capture that cannot be read; the text is one line."""


@dataclass(frozen=True)
class Packet:
    """One frame. index: from 0; time: seconds since 1970; original_length: bytes on the wire."""

    index: int
    time: float
    frame: bytes = field(repr=False)
    original_length: int


@dataclass
class Capture:
    """A capture's packets, and a warning for each part that could not be read."""

    packets: list[Packet]
    warnings: list[str] = field(default_factory=list)


def read_capture(path: Path) -> Capture:
    """All packets of a file. Raises `CaptureError`."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CaptureError(f"capture {path}: {error.strerror or 'cannot be read'}") from None
    try:
        return parse_capture(data)
    except CaptureError as error:
        raise CaptureError(f"capture {path}: {error}") from None


def parse_capture(data: bytes) -> Capture:
    """All packets of a file's content. Raises `CaptureError`."""
    warnings: list[str] = []
    if data[:2] == b"\x1f\x8b":
        data = _gunzip(data, warnings)
    if not data:
        raise CaptureError("the file is empty")
    if data[:4] in _PCAP_MAGICS:
        frames = _pcap(data, warnings)
    elif data[:4] == b"\x0a\x0d\x0d\x0a":
        frames = _pcapng(data, warnings)
    else:
        raise CaptureError("neither pcap nor pcapng")
    packets = [Packet(i, *fields) for i, fields in enumerate(frames)]
    return Capture(packets, warnings)


def _gunzip(data: bytes, warnings: list[str]) -> bytes:
    """Everything that can be decompressed, from all members."""
    out = bytearray()
    while data[:2] == b"\x1f\x8b":
        stream = zlib.decompressobj(wbits=31)
        try:
            for at in range(0, len(data), 1 << 16):
                out += stream.decompress(data[at : at + (1 << 16)])
                if stream.eof:
                    data = stream.unused_data + data[at + (1 << 16) :]
                    break
            else:
                warnings.append("the compressed file is cut short")
                break
        except zlib.error:
            if not out:
                raise CaptureError("broken gzip data") from None
            warnings.append("the compressed file is damaged; what is behind was left out")
            break
    return bytes(out)


_Frames = Iterator[tuple[float, bytes, int]]


def _pcap(data: bytes, warnings: list[str]) -> _Frames:
    order, ticks = _PCAP_MAGICS[data[:4]]
    if len(data) < 24:
        raise CaptureError("cut short in the file header")
    # The upper bits of the link type tell of a frame check sequence.
    (network,) = struct.unpack_from(order + "I", data, 20)
    if network & 0xFFFF != LINKTYPE_ETHERNET:
        raise CaptureError(f"link type {network & 0xFFFF} is not Ethernet")
    fcs = (network >> 28) * 2 if network & 1 << 26 else 0
    at = 24
    while at < len(data):
        if at + 16 > len(data):
            warnings.append("the file is cut short")
            return
        seconds, fraction, length, original = struct.unpack_from(order + "4I", data, at)
        if length > MAX_FRAME:
            warnings.append(f"a broken packet header at byte {at}; what is behind was left out")
            return
        if at + 16 + length > len(data):
            warnings.append("the file is cut short")
            return
        frame = data[at + 16 : at + 16 + length]
        yield seconds + fraction / ticks, _without_fcs(frame, original, fcs), original - fcs
        at += 16 + length


def _without_fcs(frame: bytes, original: int, fcs: int) -> bytes:
    """The frame without its check sequence, of which snapping may have left a part."""
    return frame[: original - fcs] if fcs else frame


@dataclass(frozen=True)
class _Interface:
    """What the blocks of an interface need; the snap length only for simple packet blocks."""

    snap: int
    ticks: int
    offset: int
    ethernet: bool


def _pcapng(data: bytes, warnings: list[str]) -> _Frames:
    order, at = "<", 0
    interfaces: list[_Interface] = []
    foreign = seen = 0
    while at < len(data):
        if at + 12 > len(data):
            if not at:
                raise CaptureError("cut short in the section header")
            warnings.append("the file is cut short")
            break
        (kind,) = struct.unpack_from(order + "I", data, at)
        if data[at : at + 4] == b"\x0a\x0d\x0d\x0a":
            kind = _SECTION
            if data[at + 8 : at + 12] not in _BYTE_ORDERS:
                if not at:
                    raise CaptureError("pcapng section header without byte order")
                warnings.append(f"a broken section header at byte {at}")
                break
            order = _BYTE_ORDERS[data[at + 8 : at + 12]]
            interfaces = []
        (length,) = struct.unpack_from(order + "I", data, at + 4)
        if length < 12 or length % 4:
            if not at:
                raise CaptureError("a broken section header")
            warnings.append(f"a broken block at byte {at}; what is behind was left out")
            break
        if at + length > len(data):
            if not at:
                raise CaptureError("cut short in the section header")
            warnings.append("the file is cut short")
            break
        body = data[at + 8 : at + length - 4]
        at += length
        try:
            if kind == _INTERFACE:
                interfaces.append(_interface(body, order))
                continue
            if kind not in (_PACKET, _SIMPLE, _ENHANCED):
                continue
            interface, ticks, frame, original = _packet(body, kind, order, interfaces)
        except (struct.error, IndexError):
            warnings.append("a broken block was left out")
            continue
        seen += 1
        if not interface.ethernet:
            foreign += 1
            continue
        yield interface.offset + ticks / interface.ticks, frame, original
    if foreign and foreign == seen:
        raise CaptureError("no interface is Ethernet")
    if foreign:
        warnings.append(f"{foreign} packets of interfaces that are not Ethernet were left out")


def _interface(body: bytes, order: str) -> _Interface:
    """An interface description block. Raises `struct.error`."""
    linktype, _, snap = struct.unpack_from(order + "HHI", body)
    ticks, offset, at = 1_000_000, 0, 8
    while at + 4 <= len(body):
        code, length = struct.unpack_from(order + "HH", body, at)
        value = body[at + 4 : at + 4 + length]
        if code == 0:
            break
        if code == _OPT_TSRESOL and len(value) == 1:
            ticks = 2 ** (value[0] & 127) if value[0] & 128 else 10 ** value[0]
        elif code == _OPT_TSOFFSET and len(value) == 8:
            (offset,) = struct.unpack(order + "q", value)
        at += 4 + (length + 3 & ~3)
    return _Interface(snap, ticks, offset, linktype == LINKTYPE_ETHERNET)


def _packet(
    body: bytes, kind: int, order: str, interfaces: list[_Interface]
) -> tuple[_Interface, int, bytes, int]:
    """A packet block: interface, time in ticks, frame, original length.

    Raises `struct.error` and `IndexError` where it is broken.
    """
    if kind == _SIMPLE:
        (original,) = struct.unpack_from(order + "I", body)
        snap = interfaces[0].snap or MAX_FRAME
        return interfaces[0], 0, body[4 : 4 + min(original, snap)], original
    layout = "IIIII" if kind == _ENHANCED else "HHIIII"
    fields = struct.unpack_from(order + layout, body)
    high, low, length, original = fields[-4:]
    if 20 + length > len(body):
        raise IndexError
    return interfaces[fields[0]], high << 32 | low, body[20 : 20 + length], original
