# SPDX-License-Identifier: Apache-2.0
"""Transmit behind its ports, behaviourally: frames of the host in, frames and completions out.

Same ports and same answers as the gateware, to the reason, when commands that take a key away wait
for the frames in front of them, as the driver does.
"""

from sealane.hdl.abi.commands import STAGE_IV, STAGE_KEY
from sealane.hdl.abi.config import Config
from sealane.hdl.abi.flowhash import buckets
from sealane.hdl.abi.tx import TX_COUNTERS, TX_META, TX_STATUS, TxCommand, TxOp, TxReason

from ...device.transport import TxOutput
from ...net.parser import parse
from ..flow_entries import FlowEntries
from .engine import TxEngine, TxKey, TxVerdict, assemble_frame, decide
from .row import KEY_SLOTS, command
from .span import Action
from .walker import TxWalker


class TxModel:
    """Transmit of a device with `config.tx_flows` contexts; it answers at once."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.walker = TxWalker(config.tx_flows)
        self.engine = TxEngine()
        self.counts = dict.fromkeys((name for name, _ in TX_COUNTERS), 0)
        self._table = FlowEntries(config.tx_flows)
        self._frames: list[bytes] = []
        self._completions: list[tuple[list[bytes], int]] = []
        self._lost_writes = 0

    def fail_next(self, writes: int) -> None:
        """A fault for tests: the first `writes` writes of text of the next frame are lost."""
        self._lost_writes = writes

    def command(self, fields: dict[str, int], flow_key: int, staged: bytes) -> bool:
        """A `TxCommand`, fields of `TX_COMMAND`; whether it took the staged key.

        flow_key: the FLOW_KEY registers. staged: the bytes of the staging memory.
        """
        op, context, flows = fields["op"], fields["context"], self.config.tx_flows
        if op == TxCommand.TX_FLOW_WRITE:
            if context < flows and fields["bucket"] < buckets(flows):
                place = (fields["table"], fields["bucket"], fields["slot"])
                self._table.write(place, bool(fields["valid"]), flow_key, context)
            return False
        if not command(self.walker.rows, fields):
            return False
        row, keys = self.walker.rows[context], self.engine.keys
        for slot in range(KEY_SLOTS):  # a key slot that serves no record holds no key
            if not row.has[slot]:
                keys.pop((context, slot), None)
        if op not in (TxCommand.TX_ADD, TxCommand.TX_REKEY):
            return False
        slot = 0 if op == TxCommand.TX_ADD else fields["epoch"] & 1
        key = staged[4 * STAGE_KEY :][: 32 if fields["key256"] else 16]
        iv = staged[4 * STAGE_IV :][:12]
        keys[context, slot] = TxKey(row.key_name[slot], row.version, key, iv)
        return True

    def post(self, frame: bytes, word: int) -> None:
        """A frame of the host with its packed `TX_META`. Raises `ValueError` on an empty one."""
        if not frame:
            raise ValueError("a frame has at least one byte")
        lost, self._lost_writes = self._lost_writes, 0
        meta = TX_META.unpack(word)
        head = parse(frame, self.config)
        hit = self._table.lookup(head.key) if head.is_tcp else None
        walked = self.walker.frame(frame, head, hit, meta)
        verdict = TxVerdict()
        if walked.spans:
            verdict = self.engine.frame(meta["context"], walked.spans, frame, lost)
        reason = TxReason.NONE if walked.action == Action.PASS else decide(walked, verdict)
        if walked.action == Action.PASS:
            self._frames.append(frame)
        elif walked.action == Action.ENCRYPT and not reason:
            self._frames.append(assemble_frame(frame, head, walked, verdict))
        self._count(walked.action, meta["op"], reason, len(verdict.tags))
        status = {name: meta[name] for name in ("op", "cookie", "context", "generation")}
        status |= {"reason": reason, "tags": walked.tags, "first_number": walked.first_number}
        self._completions.append((verdict.tags, TX_STATUS.pack(status)))

    def poll(self) -> TxOutput:
        """What has come out since the last call."""
        out = TxOutput(self._frames, self._completions)
        self._frames, self._completions = [], []
        return out

    def _count(self, action: Action, op: int, reason: TxReason, tags: int) -> None:
        counts = self.counts
        counts["tx_frames"] += 1
        counts["tx_tags"] += tags
        if reason:
            counts["tx_dropped"] += 1
            counts["tx_orphans"] += reason == TxReason.ORPHAN
            counts["tx_tag_mismatch"] += reason == TxReason.TAG_MISMATCH
        elif action == Action.PASS:
            counts["tx_wire" if op == TxOp.WIRE else "tx_passed"] += 1
        else:
            counts["tx_encrypted" if action == Action.ENCRYPT else "tx_dumped"] += 1
