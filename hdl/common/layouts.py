# SPDX-License-Identifier: Apache-2.0
"""Layouts of the streams between the stages, each defined once.

Byte order everywhere: byte 0 of a word, a block, a key or a nonce lies in bits 7:0. Sequence
numbers, ports, lengths and record numbers are plain integers.

    ingress/parser --PacketDesc--> flow table --Work--> walker --Span--> cipher --Verdict--> commit
                                                            \\--Entry, TextSpan-------------^
"""

from amaranth.hdl import unsigned
from amaranth.lib import data
from amaranth.utils import ceil_log2

from ..abi.commands import COMMAND, FLOW_KEY
from ..abi.config import WORD_BYTES, Config
from ..abi.events import EVENT
from ..abi.layout import Layout
from ..abi.meta import META
from .amaranth_types import enum


def struct(layout: Layout) -> data.StructLayout:
    """The Amaranth layout of a contract layout: same order, same widths."""
    return data.StructLayout({field.name: unsigned(field.width) for field in layout})


Word = data.StructLayout(
    {
        "data": 128,
        "bytes": 5,  # valid bytes, 1 to 16; below 16 only with `last`
        "last": 1,
    }
)
"""One beat of a frame."""

FlowKey = struct(FLOW_KEY)
Command = struct(COMMAND)
Meta = struct(META)
Event = struct(EVENT)


class SpanKind(enum.IntEnum, shape=2):
    """What the cipher does with a span."""

    DATA = 0
    KEY_WRITE = 1  # CONTEXT_ADD, REKEY: takes the staged key into the context's key row
    KEY_CLEAR = 2


class TokenKind(enum.IntEnum, shape=3):
    """What a token does to commit."""

    NONE = 0  # a packet's entry
    ADD = 1  # CONTEXT_ADD
    DELETE = 2
    GO_ON = 3
    RESYNC = 4  # carries an event only
    DESYNC = 5  # the walker has taken note of a bad tag
    REKEY = 6
    PROVEN = 7  # the walker has taken note of a proof


class Layouts:
    """The layouts whose widths depend on the device's parameters."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.context_bits = ceil_log2(config.flows)
        # Key rows: one a context of receive, then two key slots a context of transmit.
        self.key_bits = ceil_log2(config.flows + 2 * config.tx_flows)
        # One more than record slots: a candidate record whose number is a guess has the last.
        self.slot_bits = ceil_log2(config.record_slots + 1)
        self.word_bits = ceil_log2(config.ring_words)  # index of a word in the ring
        self.byte_bits = self.word_bits + ceil_log2(WORD_BYTES)  # byte address in the ring

        self.packet_desc = data.StructLayout(
            {
                "ring_word": self.word_bits,  # the frame's first word
                "oversize": 1,  # longer than max_frame: given before its end has arrived
                "is_tcp": 1,  # fields below are valid
                "checksum_ok": 1,  # IPv4 header (if any) and TCP
                "key": FlowKey,
                "seq": 32,
                "tcp_flags": 8,  # CWR ECE URG ACK PSH RST SYN FIN, FIN in bit 0
                "payload_offset": 14,  # from the frame's first byte
                "payload_length": 14,  # by the IP length, padding left out
                # Below: for transmit only; `frame_bytes` and `refused_tcp` also without `is_tcp`.
                "frame_bytes": 14,
                "refused_tcp": 1,  # no whole segment, but IP names TCP or may hide it
                "tcp_offset": 14,  # of the TCP header, from the frame's first byte
                "tcp_checksum": 16,  # as it stands in the header, first byte low
                # 16-bit lanes of pseudo-header and segment, folded, first byte low; never 0.
                "segment_sum": 16,
            }
        )
        """A whole frame in the ring and what the parser saw in it."""

        self.work = data.StructLayout(
            {
                "is_command": 1,
                "command": Command,  # FLOW_WRITE never gets here: it ends in the flow table
                "packet": self.packet_desc,
                "hit": 1,
                "context": self.context_bits,  # valid if `hit`
            }
        )
        """A packet with its context, or a command between packets."""

        self.span = data.StructLayout(
            {
                "kind": SpanKind,
                "context": self.context_bits,
                "generation": 8,
                "version": 1,
                "key256": 1,  # KEY_WRITE only
                "slot": self.slot_bits,  # X row of the record in its flow
                "number": 64,
                "nonce": 64,  # explicit nonce; 0 in TLS 1.3
                "content_type": 8,
                "length": 16,  # the header's length field
                "ring_byte": self.byte_bits,  # of the span's first byte, text or tag
                "text_offset": 15,  # of the first text byte in the record's text
                "text_bytes": 14,  # tag bytes follow directly behind them
                "tag_offset": 5,
                "tag_bytes": 5,
                "first": 1,  # nothing of this record has been fed before
                "completes": 1,  # every byte of the record has now been fed
                "probe": 1,  # its number is a guess: it may become `proof` and is never bad
                "last": 1,  # last span of its packet
            }
        )
        """Consecutive text and tag bytes of one record in one packet; at least one byte, unless
        an empty piece has to carry `last` or `completes`. A span that is `first` and `completes`
        holds the whole record and touches no X row."""

        self.verdict = data.StructLayout(
            {
                "bad": 1,  # a record completed, before any park in the packet, and is not authentic
                "stale": 1,  # a span's generation is not the key's
                "verified": 10,  # records that completed and authenticated
                "park": 1,  # one of them may change keys
                "park_last": 1,  # ... and the first such is the record of the packet's last span
                "number": 64,  # record number of the bad record, else of the last parking one
                "proof": 1,  # a record whose number was a guess authenticated
            }
        )
        """What the spans of one packet came to; one for each packet with spans."""

        self.feedback = data.StructLayout(
            {
                "context": self.context_bits,
                "generation": 8,
                "proof": 1,  # a candidate is proven, else a tag was bad
                "candidate_seq": 32,  # of the candidate: sequence number of its first header
                "number": 64,  # ... and that record's number
            }
        )
        """Commit to walker: positions behind a bad tag are unproven (not given for records behind a
        park, whose key may be another), or a candidate's tag was good."""

        self.text_span = data.StructLayout(
            {
                "start": 14,  # offset in the frame of the first text byte
                "end": 14,  # behind the last one; end > start
            }
        )
        """Text bytes that leave from the shadow ring if the packet is marked."""

        self.entry = data.StructLayout(
            {
                "is_token": 1,
                "token": TokenKind,
                "park": 8,  # GO_ON: name of the park
                "context": self.context_bits,
                "generation": 8,
                "ring_word": self.word_bits,
                "oversize": 1,
                # A verdict will come; that of a key token says that the key is in place.
                "has_spans": 1,
                "texts": 10,  # text spans of this packet
                "ahead": 1,  # the packet ends behind the end of an open record
                # A record whose number is a guess completes here. The metadata's `last_start` and
                # `first_number` are its candidate's, for feedback; the packet is not marked.
                "probe": 1,
                "meta": Meta,  # reason NONE: may be marked; framing filled in
                "event": Event,  # kind NONE: nothing to report
            }
        )
        """A packet, or a token that does to commit what a command did in front."""
