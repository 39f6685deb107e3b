# SPDX-License-Identifier: Apache-2.0
"""Layouts of the streams between the stages of transmit; see `layouts` for the byte order.

ingress/parser --PacketDesc--> flow table --Work--> tx_walker --Span--> cipher lane
tx_walker --ClearSpan, Entry--> tx_commit --Job--> tx_reader
cipher lane --text, Outcome (tag writes, verdicts)--> tx_ring --Verdict--> tx_commit
cipher lane --tags--> tx_commit --> completions
"""

from dataclasses import replace

from amaranth.lib import data
from amaranth.utils import ceil_log2

from ..abi.config import Config
from ..abi.tx import TX_COMMAND, TX_META
from .amaranth_types import enum
from .layouts import Layouts, struct


class Action(enum.IntEnum, shape=2):
    """What becomes of a frame."""

    PASS = 0  # leaves as it came
    ENCRYPT = 1
    DUMP = 2  # hashed and discarded
    DROP = 3  # for the front's reason; its spans, if any, still run


class TxTokenKind(enum.IntEnum, shape=3):
    """What a token says to commit."""

    NONE = 0  # a frame's entry
    ADD = 1  # TX_ADD, TX_REKEY: its verdict says that the key is in place
    CLEAR = 2  # TX_KEY_CLEAR, TX_DELETE: the same
    DONE = 3  # TX_RELEASE, and what was refused: nothing to wait for
    MORE = 4  # TX_DELETE: its first clear is in place, and the command is not done yet


TxCommandFields = struct(TX_COMMAND)
TxMeta = struct(TX_META)


def tx_config(config: Config) -> Config:
    """The parameters with which blocks of receive serve transmit: its flows and its ring."""
    return replace(config, flows=config.tx_flows, ring_words=config.tx_ring_words, tx_flows=0)


def tag_depth(config: Config) -> int:
    """Depth of the queues of tags and of clear spans: a frame's entry comes behind all its spans,
    and only then are they drained, so less than a frame can have would deadlock. The shortest
    record has 22 bytes."""
    return config.max_frame // 22 + 2


class TxLayouts:
    """The layouts whose widths depend on the device's parameters (those of the whole device)."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.shared = Layouts(tx_config(config))  # packet_desc
        self.context_bits = ceil_log2(config.tx_flows)
        self.key_bits = ceil_log2(config.flows + 2 * config.tx_flows)
        self.word_bits = self.shared.word_bits
        self.byte_bits = self.shared.byte_bits

        self.work = data.StructLayout(
            {
                "is_command": 1,
                "command": TxCommandFields,  # TX_FLOW_WRITE ends in the flow table
                "packet": self.shared.packet_desc,
                "hit": 1,
                "context": self.context_bits,  # valid if `hit`
            }
        )
        """A frame of the host with its context, or a command between frames. The frame's metadata
        (`TxMeta`) come to the walker in a queue of their own, in the same order."""

        self.span = data.StructLayout(
            {
                # `context`: of transmit; `slot`: bit 0 is 0 for the stream, 1 for the detached row;
                # `generation`: name of the key; `number`: N - base; `probe`: 0.
                **self.shared.span.members,
                "key_row": self.key_bits,  # flows + 2 * context + key slot
                "tag_mode": 2,  # TxTags
                "use_row": 1,  # the sum goes on from the X row and is kept there
            }
        )
        """A span of `Layouts` and what transmit adds. Key tokens clear or write one key row each;
        each gives a verdict of its own. `first`: begins with the record's first text or tag byte
        (`at == H`), so there is nothing in the row. With GIVEN the sum is not wanted."""

        self.clear_span = data.StructLayout({"start": 14, "end": 14})
        """Header and nonce bytes that the walker checked: offsets in the frame; end > start."""

        self.entry = data.StructLayout(
            {
                "is_token": 1,
                "token": TxTokenKind,
                "context": 16,
                "generation": 8,
                "ring_word": self.word_bits,
                "oversize": 1,
                "action": Action,
                "reason": 5,  # TxReason of the front
                "op": 3,
                "cookie": 16,
                "has_spans": 1,  # a verdict will come
                "clears": 10,  # clear spans of this frame
                "expected": 14,  # payload bytes that the cipher and the tag writer must write
                "tags": 10,  # tags that come for the completion
                "first_number": 64,
                "payload_at": 14,  # offset in the frame
                "payload_end": 14,
                "checksum_at": 14,  # of the TCP checksum field
                "checksum_in": 16,  # what the host wrote there
                # Sum of the TCP segment as the host gave it with its pseudo-header; 16-bit lanes
                # from the TCP header on, folded, first byte low.
                "segment_sum": 16,
            }
        )
        """A frame of the host, or a token that follows a command through the pipeline."""

        self.verdict = data.StructLayout(
            {
                "stale": 1,  # a span's key name is not the key's
                "mismatch": 1,  # COMPARE found another tag
                "written": 14,  # bytes of text and tag written
                # Ciphertext and tags minus what stood in their place, in the lanes of
                # `segment_sum`, folded.
                "sum": 16,
            }
        )
        """What the spans of one frame came to; one for each frame or key token with spans."""

        self.outcome = data.StructLayout(
            {
                "is_verdict": 1,
                "verdict": self.verdict,
                "address": self.byte_bits,  # byte i of `tag` goes to address + i if mask[i]
                "mask": 16,
                "tag": 128,
            }
        )
        """One queue carries tag writes and verdicts, so a verdict comes behind its tags."""

        self.delta = data.StructLayout(
            {
                "even": 16,  # sum of `out - in` over 16-bit lanes at even ring addresses, folded
                "odd": 16,  # the same of slots at odd addresses, not yet swapped
                "written": 14,  # text bytes
                "tag_in": 128,  # tag bytes of the frame, at their places in the tag
            }
        )
        """What one span did to the text, beside its GHASH sum."""

        self.job = data.StructLayout(
            {
                "drop": 1,  # read to the end and discarded
                "encrypt": 1,
                "clears": 10,
                "payload_at": 14,
                "payload_end": 14,
                "checksum_at": 14,
                "checksum": 16,  # first byte of the field low
            }
        )
        """What the reader does with the frame at the head of the ring."""
