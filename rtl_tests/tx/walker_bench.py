# SPDX-License-Identifier: Apache-2.0
"""The transmit walker under Verilator beside its behavioural model, item by item."""

import random
from dataclasses import dataclass, field

from rtl_tests.walker.bench import describe, full, pack, unpack
from sealane.driver.model.tx.row import command
from sealane.driver.model.tx.walker import TxWalker as ModelTxWalker
from sealane.driver.net.parser import Parsed
from sealane.hdl.abi.commands import FLOW_KEY
from sealane.hdl.abi.config import WORD_BYTES
from sealane.hdl.abi.tx import TxCommand
from sealane.hdl.common import layouts as rx
from sealane.hdl.common import tx_layouts as tx
from sealane.hdl.tx.walker import TxWalker
from sealane.sim.unit import build

NOISE = bytes.fromhex("1703030020") * 8  # around the payload: would be headers
LIMIT = 5_000  # clocks without an entry
TOKENS = {
    TxCommand.TX_ADD: [tx.TxTokenKind.ADD],
    TxCommand.TX_REKEY: [tx.TxTokenKind.ADD],
    TxCommand.TX_KEY_CLEAR: [tx.TxTokenKind.CLEAR],
    TxCommand.TX_DELETE: [tx.TxTokenKind.MORE, tx.TxTokenKind.CLEAR],
}


@dataclass
class Item:
    """A command, or a frame with what parser, flow table and driver say of it."""

    command: dict | None = None
    payload: bytes = b""
    head: Parsed = Parsed()
    hit: int | None = None
    meta: dict = field(default_factory=dict)
    ring_word: int = 0

    @property
    def frame(self):
        """The whole frame: headers that nobody reads, payload, padding."""
        offset = self.head.payload_offset if self.head.is_tcp else 0
        headers = (NOISE * 4)[:offset]
        return (headers + self.payload).ljust(self.head.frame_bytes, b"\x17")


@dataclass
class Expected:
    """What one item makes the walker send."""

    spans: list[dict] = field(default_factory=list)
    clear_spans: list[dict] = field(default_factory=list)
    entries: list[dict] = field(default_factory=list)


class Model:
    """The behavioural walker at the ports of the gateware."""

    def __init__(self, config):
        self.config = config
        self.walker = ModelTxWalker(config.tx_flows)
        self.seen = set()

    def step(self, item: Item) -> Expected:
        return self._frame(item) if item.command is None else self._command(item.command)

    def _key_row(self, context, slot):
        return self.config.flows + 2 * context + slot

    def _command(self, fields):
        op, context = fields["op"], fields["context"]
        names = {"context": context, "generation": fields["generation"]}
        if not command(self.walker.rows, fields) or op == TxCommand.TX_RELEASE:
            return Expected(entries=[{"is_token": 1, "token": tx.TxTokenKind.DONE, **names}])
        self.seen.add(TxCommand(op).name)
        row = self.walker.rows[context]
        slots = {TxCommand.TX_ADD: [0], TxCommand.TX_DELETE: [0, 1]}.get(op, [fields["epoch"] & 1])
        expected = Expected()
        for slot, token in zip(slots, TOKENS[op], strict=True):
            span = {"kind": rx.SpanKind.KEY_CLEAR}
            if op in (TxCommand.TX_ADD, TxCommand.TX_REKEY):
                span = {
                    "kind": rx.SpanKind.KEY_WRITE,
                    "version": row.version,
                    "key256": fields["key256"],
                }
            expected.spans.append(
                {
                    **span,
                    "context": context,
                    "generation": row.key_name[slot],
                    "key_row": self._key_row(context, slot),
                    "last": 1,
                }
            )
            expected.entries.append({"is_token": 1, "token": token, "has_spans": 1, **names})
        return expected

    def _frame(self, item):
        meta, head = item.meta, item.head
        walked = self.walker.frame(item.frame, head, item.hit, meta)
        expected = Expected()
        for index, span in enumerate(walked.spans):
            context = meta["context"]
            expected.spans.append(
                {
                    "kind": rx.SpanKind.DATA,
                    "context": context,
                    "generation": span.key_name,
                    "version": self.walker.rows[context].version,
                    "slot": int(span.detached),
                    "number": span.number,
                    "nonce": int.from_bytes(span.nonce, "little"),
                    "content_type": span.content_type,
                    "length": span.length,
                    "ring_byte": (item.ring_word * WORD_BYTES + span.at)
                    % (self.config.tx_ring_words * WORD_BYTES),
                    "text_offset": span.text_offset,
                    "text_bytes": span.text_bytes,
                    "tag_offset": span.tag_offset,
                    "tag_bytes": span.tag_bytes,
                    "first": int(span.first),
                    "completes": int(span.completes),
                    "last": int(index + 1 == len(walked.spans)),
                    "key_row": self._key_row(context, span.key_slot),
                    "tag_mode": span.tag_mode,
                    "use_row": int(span.use_row),
                }
            )
            self.seen.add(f"key slot {span.key_slot} first {span.first} side {span.detached}")
        expected.clear_spans = [{"start": start, "end": end} for start, end in walked.clears]
        for start, end in walked.clears:
            self.seen.add(f"clear {end - start}")
        expected.entries.append(
            {
                "context": meta["context"],
                "generation": meta["generation"],
                "ring_word": item.ring_word,
                "oversize": int(head.oversize),
                "action": walked.action,
                "reason": walked.reason,
                "op": meta["op"],
                "cookie": meta["cookie"],
                "has_spans": int(bool(walked.spans)),
                "clears": len(walked.clears),
                "expected": walked.expected,
                "tags": walked.tags,
                "first_number": walked.first_number,
                "payload_at": walked.payload_at,
                "payload_end": walked.payload_end,
                "checksum_at": head.tcp_offset + 16,
                "checksum_in": head.tcp_checksum,
                "segment_sum": head.segment_sum,
            }
        )
        if meta["context"] < len(self.walker.rows):
            row = self.walker.rows[meta["context"]]
            self.seen |= {
                f"passed {row.marker_expired}",
                f"broken {row.broken}",
                f"held {len(row.part_header)}",
            }
            self.seen.add(f"side row {row.detached_valid}")
        spans = "with" if walked.spans else "without"
        self.seen.add(f"{walked.action.name} {walked.reason.name} {spans} spans")
        return expected


def meant(fields):
    """A payload without the fields of an entry that mean nothing where the frame is dropped."""
    if fields.get("action") == tx.Action.DROP:
        return fields | {"expected": 0, "payload_at": 0, "payload_end": 0}
    return fields


class Bench:
    """Gives items to a walker and checks all that it sends against what is expected.

    stall: probability that a consumer is not ready in a clock.
    """

    def __init__(self, config, seed=0, stall=0.0):
        layouts = tx.TxLayouts(config)
        self.layouts = layouts
        self.unit = build(TxWalker, config, name="tx_walker")
        self.random = random.Random(seed)
        self.stall = stall
        self.ring = bytearray(config.tx_ring_words * WORD_BYTES)
        self.read = [0, 0]
        self.clocks = 0
        self.outputs = {
            "spans": layouts.span,
            "clear_spans": layouts.clear_span,
            "entries": layouts.entry,
        }
        self.got = {name: [] for name in self.outputs}
        self.waiting = {}  # payloads that were not taken
        self.done = [0, 0]

    def put(self, address, content):
        """Write bytes into the ring, from any address on."""
        for index, byte in enumerate(content):
            self.ring[(address + index) % len(self.ring)] = byte

    def clock(self):
        """One clock; keeps what was transferred."""
        unit = self.unit
        late, self.read = self.read[0], [self.read[1], unit.get("walker_addr")]
        block = self.ring[late : late + 16]
        block += self.ring[: 16 - len(block)]
        unit.set("walker_data", int.from_bytes(block, "little"))
        for name in self.outputs:
            unit.set(f"{name}__ready", int(self.random.random() >= self.stall))
        held = {}
        for name in self.outputs:
            if unit.get(f"{name}__valid"):
                payload = unit.get(f"{name}__payload")
                assert self.waiting.get(name) in (None, payload), f"{name} changed"
                if unit.get(f"{name}__ready"):
                    self.got[name].append(payload)
                else:
                    held[name] = payload
            else:
                assert self.waiting.get(name) is None, f"{name} was withdrawn"
        self.waiting = held
        self.done[0] += unit.get("work__ready") and unit.get("work__valid")
        self.done[1] += unit.get("metas__ready") and unit.get("metas__valid")
        unit.tick()
        self.clocks += 1

    def give(self, item: Item):
        """Offer an item until it is taken; returns the clocks that it took."""
        unit, head = self.unit, item.head
        if item.command is not None:
            work = {"is_command": 1, "command": item.command}
            late = 0
        else:
            self.put(item.ring_word * WORD_BYTES - len(NOISE), NOISE + item.frame + NOISE)
            packet = {
                "ring_word": item.ring_word,
                "oversize": int(head.oversize),
                "is_tcp": int(head.is_tcp),
                "checksum_ok": int(head.checksum_ok),
                "key": FLOW_KEY.unpack(head.key),
                "seq": head.seq,
                "tcp_flags": head.tcp_flags,
                "payload_offset": head.payload_offset,
                "payload_length": head.payload_length,
                "frame_bytes": head.frame_bytes,
                "refused_tcp": int(head.refused_tcp),
                "tcp_offset": head.tcp_offset,
                "tcp_checksum": head.tcp_checksum,
                "segment_sum": head.segment_sum,
            }
            work = {
                "is_command": 0,
                "packet": packet,
                "hit": int(item.hit is not None),
                "context": item.hit or 0,
            }
            late = self.random.choice((0, 0, 1, 5)) if self.stall else 0
            unit.set("metas__payload", pack(tx.TxMeta, item.meta))
        unit.set("work__payload", pack(self.layouts.work, work))
        begin, done = self.clocks, self.done[0]
        meta_first = self.random.random() < 0.5  # frame and metadata come in any order
        while self.done[0] == done:
            here = self.clocks - begin >= late
            unit.set("work__valid", int(here or not meta_first))
            unit.set("metas__valid", int(item.command is None and (here or meta_first)))
            taken = self.done[1]
            self.clock()
            assert self.clocks - begin < LIMIT, "the walker stands still"
        assert (self.done[1] != taken) == (item.command is None)
        unit.set("work__valid", 0)
        unit.set("metas__valid", 0)
        return self.clocks - begin

    def check(self, items):
        """Run (item, expected); raises AssertionError at the first difference. Clocks by item."""
        want = {name: [v for _, e in items for v in getattr(e, name)] for name in self.outputs}
        for name in self.outputs:
            self.got[name].clear()
        clocks = [self.give(item) for item, _ in items]
        for _ in range(40 if self.stall == 0 else 400):
            self.clock()
        for name in ("entries", "spans", "clear_spans"):
            shape = self.outputs[name]
            for index, (got, wanted) in enumerate(zip(self.got[name], want[name], strict=False)):
                got, wanted = meant(unpack(shape, got)), meant(full(shape, wanted))
                if got != wanted:
                    raise AssertionError(f"{name} {index}:\n{describe(got, wanted)}\n{wanted}")
            assert len(self.got[name]) == len(want[name]), name
        return clocks
