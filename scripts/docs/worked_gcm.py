# SPDX-License-Identifier: Apache-2.0
"""The worked example of a record in three pieces: what each adds to X, term by term.

It is worked out here from the definition (SP 800-38D), and every sum must be what the model of the
cipher gives; the spans are those that the model of the walker emits. The key is a constant and
protects nothing.
"""

from __future__ import annotations

from itertools import permutations

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from sealane.driver.crypto.gcm import gf_mul, record_aad, record_nonce
from sealane.driver.model.gcm import GcmKey, Piece, open_piece
from sealane.driver.model.walker.row import new_row
from sealane.driver.model.walker.span import Span
from sealane.driver.model.walker.walk import Walk
from sealane.hdl.abi.config import HEADER_BYTES, TAG_BYTES, VERSION_TLS13, Config

BLOCK = 16
KEY, IV = bytes(range(16)), bytes(range(0x40, 0x4C))  # protect nothing
NUMBER, SEQ = 5, 1000
TEXT = b"A record of forty bytes, type included." + b"\x17"
CUTS = (0, 11, 29, len(TEXT) + TAG_BYTES)  # packets, as offsets after the record's header
ORDER = (3, 1, 2)


def line(label: str, value: int | bytes | str) -> str:
    """A label and 16 bytes, or what else there is to say of it."""
    if isinstance(value, int):
        value = value.to_bytes(BLOCK, "big")
    return f"{label:<44}{value.hex() if isinstance(value, bytes) else value}"


def power(exponent: int) -> str:
    """A power of H as the page writes it."""
    return "H" if exponent == 1 else f"H^{exponent}"


class Example:
    """One sealed TLS 1.3 record and what each of its packets adds to X."""

    def __init__(self) -> None:
        self.key = GcmKey(KEY)
        self.nonce = record_nonce(VERSION_TLS13, IV, NUMBER, b"")
        self.length = len(TEXT) + TAG_BYTES
        self.aad = record_aad(VERSION_TLS13, NUMBER, 23, self.length)
        self.body = AESGCM(KEY).encrypt(self.nonce, TEXT, self.aad)
        self.blocks = -(-len(TEXT) // BLOCK)

    def spans(self, order: tuple[int, ...]) -> list[Span]:
        """What the walker makes of the packets in that order, the header having come before."""
        row = new_row(Config(), 0, 0, VERSION_TLS13, SEQ, NUMBER)
        Walk(Config(), row, SEQ, self.aad).run()
        out = []
        for packet in order:
            low, high = CUTS[packet - 1 : packet + 1]
            at = (SEQ + HEADER_BYTES + low) % 2**32
            (span,) = Walk(Config(), row, at, self.body[low:high]).run().spans
            out.append(span)
        return out

    def bytes_of(self, packet: int) -> bytes:
        """Record bytes in a packet."""
        return self.body[CUTS[packet - 1] : CUTS[packet]]

    def piece(self, packet: int, span: Span) -> Piece:
        """What the model of the cipher makes of a span."""
        data = self.bytes_of(packet)
        return open_piece(
            KEY,
            IV,
            VERSION_TLS13,
            span.number,
            b"",
            span.content_type,
            span.length,
            span.text_offset,
            data[: span.text_bytes],
            span.tag_offset,
            data[span.text_bytes :],
        )

    def head(self) -> list[str]:
        """The record."""
        lengths = f"{8 * len(self.aad)} and {8 * len(TEXT)} bits"
        sealed = self.body[: len(TEXT)]
        rows = [
            line("key", KEY),
            line("IV", IV),
            line(f"N = IV xor {NUMBER}, the record's number", self.nonce),
            line("text of the record", repr(TEXT)[1:]),
            line("A, the header, padded", self.aad.ljust(BLOCK, b"\0")),
            line(f"L, {lengths}", self.lengths()),
            line("H = E(0)", self.key.h),
        ]
        for i in range(self.blocks):
            block = sealed[BLOCK * i : BLOCK * (i + 1)]
            rows.append(line(f"C{i + 1} = text xor E(N || {i + 2})", block))
        rows.append(line("tag", self.body[len(TEXT) :]))
        return rows

    def lengths(self) -> int:
        """The length block."""
        return (8 * len(self.aad)) << 64 | 8 * len(TEXT)

    def steps(self, packet: int, span: Span) -> tuple[list[str], int]:
        """How a packet's contribution comes about, line by line, and the contribution."""
        low, high = span.text_offset, span.text_offset + span.text_bytes
        last = -(-high // BLOCK)  # blocks in front of the span's end, a cut one included
        text = self.bytes_of(packet)[: span.text_bytes]
        where = f"packet {packet}: text bytes {low}-{high - 1}"
        if span.tag_bytes:
            where += f", tag bytes {span.tag_offset}-{span.tag_offset + span.tag_bytes - 1}"
        rows, terms, own = [where], [], 0
        if low == 0:
            own = gf_mul(
                int.from_bytes(self.aad.ljust(BLOCK, b"\0"), "big"), self.key.power(last + 2)
            )
            terms.append(f"A*{power(last + 2)}")
        for block in range(low // BLOCK, last):
            first, behind = max(low, BLOCK * block), min(high, BLOCK * (block + 1))
            part = bytes(first - BLOCK * block) + text[first - low : behind - low]
            value = int.from_bytes(part.ljust(BLOCK, b"\0"), "big")
            weight = last - block + 1
            cut = behind - first < min(BLOCK, len(TEXT) - BLOCK * block)
            name = f"C{block + 1}" + ("'" if cut else "")
            rows.append(line(f"  {name}: bytes {first}-{behind - 1}, counter {block + 2}", value))
            own ^= gf_mul(value, self.key.power(weight))
            terms.append(f"{name}*{power(weight)}")
        rows.append(line("  S = " + " + ".join(terms), own))
        left = self.blocks - last
        x = gf_mul(own, self.key.power(left)) if left else own
        rows.append(line(f"  e = {left}: S*{power(left)}" if left else "  e = 0: S", x))
        if span.tag_bytes:
            tag = self.bytes_of(packet)[span.text_bytes :]
            j0 = int.from_bytes(self.key.ctr(self.nonce, 1, bytes(BLOCK)), "big")
            lengths = gf_mul(self.lengths(), self.key.h)
            rows += [
                line("  L*H", lengths),
                line("  E(J0), J0 = N || 1", j0),
                line("  tag bytes", tag),
            ]
            x ^= lengths ^ j0 ^ int.from_bytes(tag, "big")
        return rows, x

    def lines(self) -> list[str]:
        """The example. Raises `RuntimeError` where the model says something else."""
        rows, x = self.head(), 0
        for packet, span in zip(ORDER, self.spans(ORDER), strict=True):
            steps, part = self.steps(packet, span)
            piece = self.piece(packet, span)
            if part != int.from_bytes(piece.x, "big"):
                raise RuntimeError(f"packet {packet}: the model says {piece.x.hex()}")
            x ^= part
            rows += [
                "",
                *steps,
                line("  into X", part),
                line("  X", x),
                line("  plaintext", repr(piece.plaintext)[1:]),
            ]
        rows.append("")
        for order in permutations(ORDER):
            total = 0
            for packet, span in zip(order, self.spans(order), strict=True):
                total ^= int.from_bytes(self.piece(packet, span).x, "big")
            rows.append(line(f"X after packets {', '.join(map(str, order))}", total))
        return rows
