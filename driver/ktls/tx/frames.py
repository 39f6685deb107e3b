# SPDX-License-Identifier: Apache-2.0
"""A decision about a segment as the frames that carry it out, with their metadata."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from sealane.hdl.abi.config import HEADER_BYTES
from sealane.hdl.abi.tx import TX_META, TxOp, TxTags

from ...device.descriptors import Handle
from ...net import seq
from ...net.tx_frames import Segment, dump_pieces, host_frame, place_tags
from .plan import Way
from .records import RecordMap, TxRecord
from .ways import Decision

# Of frames whose completion nobody waits for, so that it is not taken for a connection's.
UNUSED_CONTEXT: Final = 0xFFFF
COOKIES: Final = 0xFFFF  # from 1 on: as many frames can be told apart; UNUSED_CONTEXT's have 0


@dataclass(frozen=True, slots=True)
class InFlightFrame:
    """A frame that is posted, until its completion.

    begins: records, by N, whose tag comes back in the completion. touched: records of which the
    frame computes or compares bytes of the tag. rest: the one whose tag's rest leaves with this
    frame as the device has computed it. stream: it moves the device's stream. epochs: keys that it
    needs. stored: tags handed in. records: all that it has bytes of.
    """

    frame: bytes
    meta: dict[str, int]
    op: TxOp
    way: Way | None = None
    begins: tuple[TxRecord, ...] = ()
    touched: tuple[TxRecord, ...] = ()
    rest: TxRecord | None = None
    stream: bool = False
    epochs: frozenset[int] = frozenset()
    stored: int = 0
    records: tuple[TxRecord, ...] = ()

    def streams(self, record: TxRecord) -> bool:
        """Whether it brings the record's tag from the device's stream."""
        return self.stream and record in self.begins

    def packed(self, cookie: int) -> int:
        """The metadata."""
        return TX_META.pack({"op": self.op, "cookie": cookie, **self.meta})


def context_of(handle: Handle | None) -> dict[str, int]:
    """The fields that name a context; without a handle `UNUSED_CONTEXT`, which no device has."""
    if handle is None:
        return {"context": UNUSED_CONTEXT}
    return {"context": handle.context, "generation": handle.generation & 0xFF}


@dataclass(frozen=True)
class Builder:
    """Makes the frames of ENCRYPT decisions. seq: of stream offset 0. mtu: of DUMP pieces."""

    handle: Handle
    records: RecordMap
    seq: int
    mtu: int

    def frames_of(
        self, decision: Decision, segment: Segment, start: int
    ) -> Iterator[InFlightFrame]:
        """The frames of the segment, which begins at stream offset `start`, in order."""
        sync = decision.sync
        if decision.dump is not None:
            low, high = decision.dump
            host = self.records.plain(low, high)
            for at, piece in dump_pieces(seq.add(self.seq, low), host, self.mtu):
                yield self._dump(decision, at, piece, low, sync)
                low += len(piece)
                sync = False
        yield self._frame(decision, segment, start, sync)

    def _dump(
        self, decision: Decision, seq: int, piece: bytes, start: int, sync: bool
    ) -> InFlightFrame:
        end = start + len(piece)
        records = self.records.covering(start, end)
        begins = tuple(record for record in records if record.tag_begins(start, end))
        meta = self._place(decision.detached, sync, records[0], start)
        meta |= {"seq": seq, "length": len(piece), "tags": TxTags.COMPUTE}
        return InFlightFrame(
            piece,
            meta,
            TxOp.DUMP,
            decision.way,
            begins,
            begins,
            None,
            not decision.detached,
            frozenset(record.epoch for record in records),
            0,
            tuple(records),
        )

    def _frame(self, decision: Decision, segment: Segment, start: int, sync: bool) -> InFlightFrame:
        records, payload = decision.records, segment.payload
        end = start + len(payload)
        tagged = tuple(record for record in records if record.has_tag_bytes(start, end))
        begins = tuple(record for record in records if record.tag_begins(start, end))
        stored, rest = 0, None
        if decision.tags is TxTags.COMPUTE:
            rest = records[0] if records[0].tag_start < start else None
        else:
            tags = [(r.tag_start - start, r.tag) for r in tagged if r.tag is not None]
            payload, stored = place_tags(payload, tags), len(tags)
        if decision.tags is TxTags.GIVEN:
            begins = tagged = ()
        meta = self._place(decision.detached, sync, records[0], start) | {"tags": decision.tags}
        return InFlightFrame(
            host_frame(segment.head, payload),
            meta,
            TxOp.ENCRYPT,
            decision.way,
            begins,
            tagged,
            rest,
            not decision.detached,
            frozenset(record.epoch for record in records),
            stored,
            records,
        )

    def _place(self, detached: bool, sync: bool, record: TxRecord, at: int) -> dict[str, int]:
        meta = context_of(self.handle) | {"detached": detached, "sync": sync}
        if detached or sync:
            meta["number"] = record.count
        if detached and at > record.start:
            meta["offset"] = at - record.start
            meta["record_length"] = int.from_bytes(record.header[3:HEADER_BYTES], "big")
            meta["record_type"] = record.header[0]
        return meta
