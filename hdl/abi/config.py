# SPDX-License-Identifier: Apache-2.0
"""Parameters of a device: its dimensions, and the limits that decide.

The record sizes are those of RFC 8446 section 5.2 and RFC 5246 section 6.2.3 with the AES-GCM
expansions of RFC 5288: 8 bytes of explicit nonce and 16 bytes of tag.
"""

from dataclasses import asdict, dataclass

VERSION_TLS12 = 0
VERSION_TLS13 = 1

HEADER_BYTES = 5
NONCE_BYTES = 8  # explicit nonce, TLS 1.2 only
TAG_BYTES = 16

# Bounds of the header's length field, inclusive.
LENGTH_BOUNDS = {VERSION_TLS12: (24, 16408), VERSION_TLS13: (17, 16640)}
# Outer content types that a protected record may have.
TYPES = {VERSION_TLS12: (20, 21, 22, 23), VERSION_TLS13: (23,)}

CONTENT_CHANGE_CIPHER_SPEC = 20
CONTENT_ALERT = 21
CONTENT_HANDSHAKE = 22
CONTENT_APPLICATION_DATA = 23

WORD_BYTES = 16  # the data path moves one 128-bit word a clock


@dataclass(frozen=True)
class Config:
    """Parameters of one device. Raises `ValueError` if they make no working device.

    flows: contexts, a power of two, 4 to 4096.
    record_slots: records per flow that may be open and incomplete at a time.
    runs: intervals of seen bytes per flow, with `runs - 1` holes between them.
    ring_words: 128-bit words of packet memory, a power of two.
    max_frame: longest frame in bytes that is examined; longer frames pass unmarked.
    ghash_lanes: interleaved GHASH products, equal to the multiplier's depth in clocks.
    aes_round_registers: pipeline registers in an AES round, 1 or 2.
    window: largest distance in bytes from the last proven position; other segments pass unmarked.
    scan_limit: bytes scanned for a header before the search ends (`GIVEN_UP`).
    rescan_limit: candidates tried in one segment; the rest of the segment is not scanned.
    bad_header_limit: headers not allowed by TLS before a flow is given up.
    park_hold_len: largest length field of a TLS 1.3 record that is treated as a possible KeyUpdate.
    tag_proof_limit: record numbers tried per candidate chain, with `Option.TAG_PROOF`.
    ahead_limit: largest distance in bytes from the end of an open record to a marked packet's end.
    events: depth of the event queue.
    tx_flows: transmit contexts: 0 (no transmit) or a power of two, 4 to 4096.
    tx_ring_words: 128-bit words of memory for the host's frames, a power of two up to ring_words.
    """

    flows: int = 64
    record_slots: int = 5
    runs: int = 12
    ring_words: int = 2048
    max_frame: int = 9234
    ghash_lanes: int = 4
    aes_round_registers: int = 1
    window: int = 1 << 30
    scan_limit: int = 1 << 22
    rescan_limit: int = 16
    bad_header_limit: int = 16
    park_hold_len: int = 22
    tag_proof_limit: int = 16
    ahead_limit: int = 1 << 24
    events: int = 64
    tx_flows: int = 0
    tx_ring_words: int = 1024

    def __post_init__(self) -> None:
        def need(ok: bool, what: str) -> None:
            if not ok:
                raise ValueError(what)

        def is_power(n: int) -> bool:
            return n > 0 and n & (n - 1) == 0

        need(is_power(self.flows) and 4 <= self.flows <= 4096, "flows: a power of two, 4 to 4096")
        need(1 <= self.record_slots <= 8, "record_slots: 1 to 8")
        need(2 <= self.runs <= 32, "runs: 2 to 32")
        need(64 <= self.max_frame <= 16000, "max_frame: 64 to 16000 bytes")
        # One frame is written while another is sent; less would deadlock store and forward.
        need(
            is_power(self.ring_words) and self.ring_words * WORD_BYTES >= self.max_frame + 1024,
            "ring_words: a power of two, and a ring of at least max_frame + 1024 bytes",
        )
        need(1 <= self.ghash_lanes <= 7, "ghash_lanes: 1 to 7")
        need(self.aes_round_registers in (1, 2), "aes_round_registers: 1 or 2")
        need(is_power(self.window) and self.window <= 1 << 30, "window: a power of two up to 2^30")
        need(64 <= self.scan_limit < 1 << 32, "scan_limit: 64 to 2^32 - 1 bytes")
        need(1 <= self.rescan_limit <= 255, "rescan_limit: 1 to 255")
        need(1 <= self.bad_header_limit <= 255, "bad_header_limit: 1 to 255")
        need(17 <= self.park_hold_len <= 255, "park_hold_len: 17 to 255")
        need(1 <= self.tag_proof_limit <= 255, "tag_proof_limit: 1 to 255")
        need(0 <= self.ahead_limit <= 1 << 30, "ahead_limit: 0 to 2^30 bytes")
        need(is_power(self.events) and 8 <= self.events <= 1024, "events: 2^n, 8 to 1024")
        need(
            self.tx_flows == 0 or (is_power(self.tx_flows) and 4 <= self.tx_flows <= 4096),
            "tx_flows: 0, or a power of two, 4 to 4096",
        )
        need(
            self.tx_flows == 0
            or (
                is_power(self.tx_ring_words)
                and self.tx_ring_words <= self.ring_words
                and self.tx_ring_words * WORD_BYTES >= self.max_frame + 1024
            ),
            "tx_ring_words: a power of two up to ring_words, at least max_frame + 1024 bytes",
        )

    def as_dict(self) -> dict[str, int]:
        """The parameters by name, as written beside the generated Verilog."""
        return asdict(self)


def header_bytes(version: int) -> int:
    """Header and explicit nonce: the bytes before a record's text."""
    return HEADER_BYTES + (NONCE_BYTES if version == VERSION_TLS12 else 0)


def text_bytes(version: int, length: int) -> int:
    """Bytes of text of a record whose header says `length`."""
    return length - TAG_BYTES - (NONCE_BYTES if version == VERSION_TLS12 else 0)


def header_prefix_ok(version: int, header: bytes) -> bool:
    """Whether up to five bytes can be the beginning of a header that TLS allows.

    The length field is judged byte by byte: its first byte alone must leave an allowed length
    possible.
    """
    low, high = LENGTH_BOUNDS[version]
    if header[:1] and header[0] not in TYPES[version]:
        return False
    if any(b != 3 for b in header[1:3]):
        return False
    if len(header) >= 5:
        return low <= int.from_bytes(header[3:5], "big") <= high
    return len(header) < 4 or header[3] <= high >> 8
