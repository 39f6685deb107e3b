# SPDX-License-Identifier: Apache-2.0
"""What the walker keeps of a flow between packets, and the rules that its parts share."""

from typing import TYPE_CHECKING

from amaranth.hdl import Mux, Signal, Value, ValueLike
from amaranth.lib import data

from ..abi.commands import OPTION_BITS, Option
from ..abi.config import HEADER_BYTES, NONCE_BYTES, VERSION_TLS12, Config
from ..common.amaranth_types import Statement, enum
from ..common.layouts import Layouts

PART_HEADER_BYTES = HEADER_BYTES + NONCE_BYTES - 1  # of a header that a segment's end cuts off
LOST_RECORDS_BITS = 18


class TrackerState(enum.Enum, shape=3):
    """States of the tracker, in the terms of Linux's tls-offload.rst."""

    START = 0
    TRACKING = 1
    SEARCHING = 2
    CONFIRMING = 3
    GIVEN_UP = 4


class RowLayouts:
    """Layouts of the walker's row; widths depend on the device's parameters."""

    def __init__(self, config: Config) -> None:
        slot_bits = Layouts(config).slot_bits
        self.open_record = data.StructLayout(
            {
                "valid": 1,
                "fed": 1,
                "no_verdict": 1,  # bytes of it passed unfed: no verdict
                "has_unmarked": 1,  # bytes of it were first seen in a packet that was not marked
                "start": 32,
                "length": 15,
                "number": 64,
                "nonce": 64,
                "content": 2,  # content type - 20
            }
        )
        """An open record: header seen, not complete."""
        self.hole = data.StructLayout({"valid": 1, "slot": slot_bits, "start": 32, "end": 32})
        """Unseen bytes [start, end) of the open record in `open_record`."""
        self.coverage = data.StructLayout(
            {
                "slots": data.ArrayLayout(self.open_record, config.record_slots),
                "holes": data.ArrayLayout(self.hole, config.runs - 1),
            }
        )
        self.scalars = {
            "valid": 1,
            "generation": 8,
            "epoch": 8,
            "version": 1,
            "options": OPTION_BITS,
            "proven": 1,
            "state": TrackerState,
            "next_record_seq": 32,
            "number": 64,
            "high": 32,
            "part_header": 8 * PART_HEADER_BYTES,
            "part_header_count": 4,
            "marked": 1,  # `marked_high` is valid
            "marked_high": 32,  # end of the highest packet that could be marked
            "marked_number": 64,  # behind the highest record number in such a packet
            "closed": 1,  # the position was given anew, the walk is not past what was marked
            "closed_below": 32,  # `marked_high` when the position was given anew
            "barrier": 1,  # `barrier_end` is valid
            "barrier_end": 32,  # of the last record closed unverified that holds marks back
            "lost_at": 32,
            "candidate_seq": 32,
            "cand_next_seq": 32,
            # The window bounds a candidate chain to 2^31 bytes, which is under 2^27 records.
            "cand_count": 27,
            "cand_high": 32,
            "cand_open": 1,  # its last record is known with its nonce: the fields below
            "cand_start": 32,
            "cand_nonce": 64,
            "cand_content": 2,
            "cand_barrier": 1,  # the same in the candidate chain
            "cand_barrier_end": 32,
            "cand_part_header": 8 * PART_HEADER_BYTES,
            "cand_part_header_count": 4,
            # The third proof: the candidate's last record is fed under a guessed number.
            "probing": 1,
            "probe_fed": 1,
            "probe_number": 64,
            # Assumed records from `next_record_seq` to `candidate_seq`.
            "lost_records": LOST_RECORDS_BITS,
            "probes": 8,  # numbers tried in this candidate chain
            "passed_high": 32,  # end of the highest segment, fed or not
            "passed_from": 32,  # begin of the lowest one behind the lost header
            "behind_hole": 8
            * HEADER_BYTES,  # its first bytes, in case that it begins inside that header
            "behind_hole_count": 3,
            "scanned": (config.scan_limit + (1 << 14)).bit_length(),
            "bad_headers": 8,
        }
        self.row = data.StructLayout({**self.scalars, "coverage": self.coverage})


class RowRegisters:
    """The loaded row's scalars, a signal each: narrow registers simulate faster than a wide one."""

    def __init__(self, layouts: RowLayouts) -> None:
        self._names = list(layouts.scalars)
        for name, shape in layouts.scalars.items():
            setattr(self, name, Signal(shape, name=f"row_{name}"))

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Signal: ...  # the scalars of `RowLayouts`

    def load(self, row: data.View) -> list[Statement]:
        """Statements that take the scalars of `row`."""
        return [getattr(self, name).eq(getattr(row, name)) for name in self._names]

    def store(self, row: data.View) -> list[Statement]:
        """Statements that put the scalars into `row`."""
        return [getattr(row, name).eq(getattr(self, name)) for name in self._names]

    def clear(self) -> list[Statement]:
        """Statements that set every scalar to 0."""
        return [getattr(self, name).eq(0) for name in self._names]

    def arm(self, seq: Value, number: ValueLike) -> list[Statement]:
        """Statements for START at a known header; the coverage is to be cleared beside."""
        return [
            self.next_record_seq.eq(seq),
            self.high.eq(seq),
            self.number.eq(number),
            self.part_header_count.eq(0),
            self.cand_part_header_count.eq(0),
            self.proven.eq(1),
            self.state.eq(TrackerState.START),
            self.scanned.eq(0),
            self.bad_headers.eq(0),
            self.barrier.eq(0),
            *self.close_below(),
        ]

    def close_below(self) -> list[Statement]:
        """Statements for a position given anew: records in what was marked stay closed."""
        return [self.closed.eq(self.marked), self.closed_below.eq(self.marked_high)]


def withholds(
    config: Config, version: Value, options: Value, content: Value, length: Value
) -> Value:
    """Whether nothing is marked behind such a record before its verdict: it may change keys, or
    the flow is in one-bit mode. `content`: the content type's two low bits."""
    # ChangeCipherSpec and handshake are content types 20 and 22.
    changes = Mux(version == VERSION_TLS12, ~content[0], length <= config.park_hold_len)
    return changes | (options & Option.ONE_BIT).any()
