# SPDX-License-Identifier: Apache-2.0
"""The device behind its ports, behaviourally: registers, frames in, frames and metadata out.

Same ports and same answers as the gateware, to the reason code, when the driver lets a packet
finish before it posts the next one of that flow. Implements `driver.transport.Transport`.
"""

from collections import deque

from sealane.hdl.abi import registers
from sealane.hdl.abi.commands import (
    FLOW_KEY,
    OPTION_BITS,
    STAGE_IV,
    STAGE_KEY,
    STAGE_WORDS,
    Op,
    Option,
)
from sealane.hdl.abi.config import Config
from sealane.hdl.abi.events import EVENT, EVENT_WORDS, EventKind
from sealane.hdl.abi.meta import META, Reason
from sealane.hdl.abi.registers import COUNTERS, OFFSET
from sealane.hdl.abi.tx import TX_COUNTERS, TxCommand

from ..device.transport import Completion, TxOutput
from ..net.parser import ACK, RST, SYN, URG, Parsed, parse
from ..net.seq import add
from .engine import Cipher, Commit, CommitRow, KeyRow, Verdict
from .flow_entries import FlowEntries
from .tx.device import TxModel
from .walker import commands as walker_commands
from .walker.row import Row, new_row
from .walker.span import WalkerEvent
from .walker.walk import Walk

_KEY_WORDS = 10
_COUNTER_AT = {OFFSET["COUNT_" + name.upper()]: name for name, _ in COUNTERS}
_TX_COUNTER_AT = {OFFSET["COUNT_" + name.upper()]: name for name, _ in TX_COUNTERS}
_STAGE, _COMMAND, _EVENT_POP = OFFSET["STAGE"], OFFSET["COMMAND"], OFFSET["EVENT_POP"]


class ModelTransport:
    """A device that answers at once. `tx`: its transmit, or None."""

    def __init__(self, config: Config | None = None) -> None:
        self.config = config or Config()
        self._fixed = {
            OFFSET["IDENT"]: registers.IDENT_VALUE,
            OFFSET["FLOWS"]: self.config.flows,
            OFFSET["RECORD_SLOTS"]: self.config.record_slots,
            OFFSET["RUNS"]: self.config.runs,
            OFFSET["TX_FLOWS"]: self.config.tx_flows,
        }
        self._regs: dict[int, int] = {}
        self._stage = [0] * STAGE_WORDS
        self._table = FlowEntries(self.config.flows)
        self._rows: dict[int, Row] = {}
        self._cipher = Cipher()
        self._commit = Commit()
        self._events: deque[int] = deque()
        self._out: list[Completion] = []
        self._counts = dict.fromkeys((name for name, _ in COUNTERS), 0)
        self.tx = TxModel(self.config) if self.config.tx_flows else None
        # The fields of commands end with the flow key; with transmit the nonce follows.
        self._fields_end = OFFSET["CMD_NONCE_LO"] + (8 if self.tx else 0)

    # --- transport ------------------------------------------------------------------------

    @property
    def irq(self) -> bool:
        """An event is waiting."""
        return bool(self._events)

    def read(self, address: int) -> int:
        """A register; 0 where there is none to read."""
        if address in self._fixed:
            return self._fixed[address]
        if address == OFFSET["EVENT_STATUS"]:
            return len(self._events)
        word = (address - OFFSET["EVENT"]) // 4
        if 0 <= word < EVENT_WORDS:
            return self._events[0] >> 32 * word & 0xFFFFFFFF if self._events else 0
        if address in _COUNTER_AT:
            return self._counts[_COUNTER_AT[address]] & 0xFFFFFFFF
        if self.tx and address in _TX_COUNTER_AT:
            return self.tx.counts[_TX_COUNTER_AT[address]] & 0xFFFFFFFF
        return self._regs.get(address, 0)

    def write(self, address: int, value: int) -> None:
        """Write a register; COMMAND executes at once."""
        stage = (address - _STAGE) // 4
        if 0 <= stage < STAGE_WORDS:
            self._stage[stage] = value
        elif address == _EVENT_POP:
            if self._events:
                self._events.popleft()
        elif address == _COMMAND:
            self._command(value & 0xF)
        elif OFFSET["CMD_CONTEXT"] <= address < self._fields_end:
            self._regs[address] = value

    def post(self, frame: bytes) -> None:
        """A frame from the wire."""
        parsed = parse(frame, self.config)
        self._counts["frames"] += 1
        context = self._table.lookup(parsed.key) if parsed.is_tcp else None
        flow = None if context is None else self._rows.get(context)
        meta: dict[str, int] = {}
        if parsed.is_tcp:
            meta = {
                "l4_verified": int(parsed.checksum_ok),
                "seq": parsed.seq,
                "payload_offset": parsed.payload_offset,
                "payload_length": parsed.payload_length,
            }
        reason = self._before_walk(parsed, flow)
        if flow is not None and context is not None:
            meta |= {
                "context": context,
                "context_valid": 1,
                "generation": flow.generation,
                "epoch": flow.epoch,
            }
        if reason is not Reason.NONE or flow is None or context is None:
            self._finish(frame, meta | {"reason": reason})
            return
        self._walk(frame, parsed, context, flow, meta)

    def poll(self, wait: bool = True) -> list[Completion]:
        """Everything that has come out, in order."""
        out, self._out = self._out, []
        return out

    def post_tx(self, frame: bytes, meta: int) -> None:
        """A frame of the host with its packed `TX_META`. Raises `ValueError` on an empty frame
        and where `tx_flows` is 0."""
        if self.tx is None:
            raise ValueError("this device has no transmit: tx_flows is 0")
        self.tx.post(frame, meta)

    def poll_tx(self, wait: bool = True) -> TxOutput:
        """What transmit has given out since the last call."""
        return self.tx.poll() if self.tx else TxOutput([], [])

    def close(self) -> None:
        """Nothing to release."""

    # --- packets --------------------------------------------------------------------------

    @staticmethod
    def _before_walk(parsed: Parsed, flow: Row | None) -> Reason:
        if parsed.oversize:
            return Reason.OVERSIZE
        if not parsed.is_tcp:
            return Reason.NOT_TCP
        if not parsed.checksum_ok:
            return Reason.BAD_CHECKSUM
        if flow is None:
            return Reason.NO_FLOW
        if parsed.tcp_flags & (SYN | RST | URG) or not parsed.tcp_flags & ACK:
            return Reason.FLAGS
        return Reason.NONE if parsed.payload_length else Reason.NO_PAYLOAD

    def _walk(
        self, frame: bytes, parsed: Parsed, context: int, flow: Row, meta: dict[str, int]
    ) -> None:
        start = parsed.payload_offset
        payload = frame[start : start + parsed.payload_length]
        walked = Walk(self.config, flow, parsed.seq, payload).run()
        self._counts["evicted"] += walked.evicted
        if walked.event:
            self._report(context, flow.generation, walked.event)
        verdict = (
            self._cipher.packet(context, flow.generation, walked.spans, payload)
            if walked.spans
            else Verdict()
        )
        last_completes = walked.last[3]
        decision = self._commit.packet(
            context, add(parsed.seq, len(payload)), walked.reason, verdict, last_completes
        )
        self._counts["records_verified"] += verdict.verified
        self._counts["tag_mismatch"] += decision.desync
        for event in decision.events:
            self._counts["parked"] += event["kind"] == EventKind.PARKED
            self._push(event)
        if decision.desync:
            walker_commands.desync(flow)
        if verdict.proof and walked.probe:
            proven, evicted = walker_commands.tag_proof(self.config, flow, walked.probe)
            self._counts["evicted"] += evicted
            if proven:
                self._report(context, flow.generation, proven)
        meta["reason"] = decision.reason
        if decision.reason is Reason.NONE:
            self._counts["marked"] += 1
            self._counts["marked_ahead"] += walked.ahead
            number, offset, length, nonce, first_completes = walked.first
            meta |= {
                "decrypted": 1,
                "records": walked.records,
                "first_number": number,
                "first_offset": offset,
                "first_length": length,
                "first_nonce": nonce,
                "first_completes": int(first_completes),
                "last_number": walked.last[0],
                "last_start": walked.last[1],
                "last_length": walked.last[2],
                "last_completes": int(last_completes),
            }
            changed = bytearray(frame)
            for at, text in verdict.texts:
                changed[start + at : start + at + len(text)] = text
            frame = bytes(changed)
        self._finish(frame, meta)

    def _finish(self, frame: bytes, meta: dict[str, int]) -> None:
        self._out.append(Completion(frame, META.pack(meta)))

    # --- events and commands ----------------------------------------------------------------

    def _report(self, context: int, generation: int, event: WalkerEvent) -> None:
        self._counts["resync_requests"] += event.kind is EventKind.RESYNC_REQUEST
        self._counts["resumed"] += event.kind is EventKind.RESUMED
        self._push(
            {
                "kind": event.kind,
                "generation": generation,
                "context": context,
                "lost_at": event.lost_at,
                "candidate_seq": event.candidate_seq,
                "resumed_at": event.resumed_at,
                "proven_by": event.proven_by,
                "seq": event.seq,
                "number": event.number,
            }
        )

    def _push(self, event: dict[str, int]) -> None:
        if len(self._events) == self.config.events:
            self._counts["events_lost"] += 1
        else:
            self._events.append(EVENT.pack(event))

    def _command(self, op: int) -> None:
        if op >= min(TxCommand):
            self._tx_command(op)
            return
        who = self._regs.get(OFFSET["CMD_CONTEXT"], 0)
        context, generation, epoch = who & 0xFFFF, who >> 16 & 0xFF, who >> 24
        context %= self.config.flows
        flags = self._regs.get(OFFSET["CMD_FLAGS"], 0)
        seq = self._regs.get(OFFSET["CMD_SEQ"], 0)
        number = self._regs.get(OFFSET["CMD_NUMBER_HI"], 0) << 32 | self._regs.get(
            OFFSET["CMD_NUMBER_LO"], 0
        )
        version, key256 = flags & 1, flags >> 1 & 1
        flow = self._rows.get(context)
        if op == Op.FLOW_WRITE:
            self._flow_write(flags, context)
        elif op == Op.CONTEXT_ADD:
            self._rows[context] = new_row(
                self.config,
                generation,
                epoch,
                version,
                seq,
                number,
                Option(self._regs.get(OFFSET["CMD_OPTIONS"], 0) % (1 << OPTION_BITS)),
            )
            self._take_key(context, generation, version, key256)
        elif op == Op.REKEY and flow:
            flow.version = version
            walker_commands.rekey(self.config, flow, generation, epoch, seq, number)
            self._take_key(context, generation, version, key256)
        elif op == Op.CONTEXT_DELETE:
            self._rows.pop(context, None)
            self._cipher.keys.pop(context, None)
            self._commit.rows.pop(context, None)
        elif op == Op.GO_ON:
            self._commit.go_on(context, generation, flags >> 8 & 0xFF)
        elif flow and flow.generation == generation:
            if op == Op.RESYNC_ANSWER:
                event, evicted = walker_commands.answer(
                    self.config, flow, seq, number, bool(flags >> 2 & 1)
                )
                self._counts["evicted"] += evicted
            elif op == Op.RESYNC_HINT:
                event = walker_commands.hint(flow, seq, number)
            else:
                return
            if event:
                self._report(context, generation, event)

    def _tx_command(self, op: int) -> None:
        """There are none without transmit, nor for contexts and rows that it does not have."""
        if self.tx is None:
            return
        who, flags, seq, low, high, *nonce = (
            self._regs.get(OFFSET["CMD_" + name], 0)
            for name in (
                "CONTEXT",
                "FLAGS",
                "SEQ",
                "NUMBER_LO",
                "NUMBER_HI",
                "NONCE_LO",
                "NONCE_HI",
            )
        )
        fields = {
            "op": op,
            "context": who & 0xFFFF,
            "generation": who >> 16 & 0xFF,
            "epoch": who >> 24,
            "version": flags & 1,
            "key256": flags >> 1 & 1,
            "seq": seq,
            "number": high << 32 | low,
            "nonce": nonce[1] << 32 | nonce[0],
            "table": flags >> 4 & 1,
            "slot": flags >> 5 & 1,
            "bucket": flags >> 16,
            "valid": flags >> 3 & 1,
        }
        if self.tx.command(fields, self._flow_key(), self._staged()):
            self._stage = [0] * STAGE_WORDS

    def _flow_key(self) -> int:
        words = (self._regs.get(OFFSET["FLOW_KEY"] + 4 * i, 0) for i in range(_KEY_WORDS))
        return sum(word << 32 * i for i, word in enumerate(words)) & (1 << FLOW_KEY.width) - 1

    def _flow_write(self, flags: int, context: int) -> None:
        place = (flags >> 4 & 1, flags >> 16, flags >> 5 & 1)
        self._table.write(place, bool(flags >> 3 & 1), self._flow_key(), context)

    def _staged(self) -> bytes:
        return b"".join(word.to_bytes(4, "little") for word in self._stage)

    def _take_key(self, context: int, generation: int, version: int, key256: int) -> None:
        staged = self._staged()
        key = staged[4 * STAGE_KEY :][: 32 if key256 else 16]
        iv = staged[4 * STAGE_IV :][:12]
        self._cipher.keys[context] = KeyRow(generation, version, key, iv)
        self._commit.rows[context] = CommitRow(generation)
        self._stage = [0] * STAGE_WORDS
