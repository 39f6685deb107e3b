# SPDX-License-Identifier: Apache-2.0
"""Layouts inside the cipher, each defined once."""

from amaranth.hdl import Value
from amaranth.lib import data

from ..abi.config import Config
from ..common.layouts import Layouts
from ..common.tx_layouts import TxLayouts
from .datapath import TEXT_BLOCK_BITS

TEXT_OFFSET_BITS = 15

KeyRow = data.StructLayout(
    {
        "valid": 1,
        "generation": 8,
        "version": 1,
        "key256": 1,
        "key": 256,
        "iv": 96,  # IV of TLS 1.3; in TLS 1.2 the salt in the low 32 bits
        "h": 128,  # H^1, field order
    }
)
"""What a context's records are opened or sealed with."""

InnerType = data.StructLayout(
    {
        "valid": 1,  # a non-zero text byte was seen
        "offset": TEXT_OFFSET_BITS,  # of the last one in the record's text
        "handshake": 1,  # its value is 22
    }
)
"""The last non-zero text byte, which is the inner content type (RFC 8446 section 5.4)."""


class CipherLayouts:
    """Those whose widths depend on the device's parameters.

    With transmit a span and what becomes of it say which direction they belong to, and what only
    transmit needs goes beside what receive needs.
    """

    def __init__(self, config: Config) -> None:
        layouts = Layouts(config)
        self.transmit = config.tx_flows > 0
        direction = {"tx": 1} if self.transmit else {}
        self.span = layouts.span
        """A span of either direction."""
        if self.transmit:
            of_tx = TxLayouts(config)
            widths = {
                "context": max(layouts.context_bits, of_tx.context_bits),
                "slot": layouts.slot_bits,
                "ring_byte": layouts.byte_bits,  # the ring of transmit is no longer (`Config`)
            }
            self.span = data.StructLayout({**of_tx.span.members, **widths, **direction})

        self.issue = data.StructLayout(
            {
                "key": 256,
                "key256": 1,
                "nonce": 96,
                "key_row": layouts.key_bits,
                "blocks": 10,  # text slots
                "address": layouts.byte_bits,  # of byte 0 of the first text block
                "text_block": TEXT_BLOCK_BITS,  # index of the first text block
                "skip": 4,  # bytes of the first block in front of the span
                "end": 4,  # index of the span's last text byte in its block
                "has_tag": 1,  # a tag slot follows
                "tag_address": layouts.byte_bits,  # of tag byte 0
                "tag_offset": 4,
                "tag_bytes": 5,
                "tag_first": 1,  # tag byte 0 is here: so are E(K, J0) and the length block
                "tls13": 1,
                "text_length": TEXT_OFFSET_BITS,  # of the record
                "aad_in_text": 1,
                "aad_in_tag": 1,
                "aad": 128,  # A * H, field order; valid if one of the two is set
            }
            | direction
        )
        """A span as the issue stage needs it."""

        self.retire = data.StructLayout(
            {
                "context": layouts.context_bits,
                "slot": layouts.slot_bits,
                "generation": 8,
                "number": 64,
                "tls13": 1,
                "park_by_header": 1,  # TLS 1.2: ChangeCipherSpec or handshake
                "first": 1,
                "completes": 1,
                "last": 1,
                "probe": 1,
                "stale": 1,
                "has_slots": 1,  # a sum will come
                "needs_weight": 1,  # multiply the sum by `power`
                "power": 128,  # H^e, field order
            }
        )
        """A span as the stages behind GHASH need it."""

        job = {"issue": self.issue, "retire": self.retire}
        if self.transmit:
            job["transmit"] = self._transmit(TxLayouts(config))
        self.job = data.StructLayout(job)
        self.sum = data.StructLayout({"value": 128, "inner": InnerType})
        """What GHASH and the text of a span came to."""

        self.contribution = data.StructLayout({"retire": self.retire, "sum": self.sum})

        self.x_row = data.StructLayout({"x": 128, "inner": InnerType})
        """State of an open record behind the cipher."""

    def key_row(self, span: data.View) -> Value:
        """The key row of a span; without transmit it is the context."""
        return span.key_row if self.transmit else span.context

    def _transmit(self, layouts: TxLayouts) -> data.StructLayout:
        """Adds what a span of transmit comes to behind GHASH; gives what `retire` lacks of it."""
        own = data.StructLayout(
            {
                "context": layouts.context_bits,
                "detached": 1,  # which of the context's two X rows
                "tag_mode": 2,
                "use_row": 1,
                "tag_final": 1,  # tag byte 0 is here
                "tag_offset": 4,
                "tag_bytes": 5,
                "tag_address": layouts.byte_bits,  # of tag byte 0
            }
        )
        shared = ("first", "last", "stale", "has_slots", "needs_weight", "power")
        self.tx_retire = data.StructLayout(
            {name: self.retire.members[name] for name in shared} | dict(own.members)
        )
        """A span of transmit as the stages behind GHASH need it."""
        self.rx_job = data.StructLayout({"issue": self.issue, "retire": self.retire})
        self.tx_job = data.StructLayout({"issue": self.issue, "retire": self.tx_retire})
        """The parts of a job that each direction has use for."""
        self.tx_contribution = data.StructLayout(
            {"retire": self.tx_retire, "value": 128, "delta": layouts.delta}
        )
        return own
