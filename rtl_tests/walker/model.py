# SPDX-License-Identifier: Apache-2.0
"""The behavioural walker at the ports of the gateware: work in; spans, text spans, entries out."""

from dataclasses import dataclass, field

from sealane.driver.model.walker import commands as walker_commands
from sealane.driver.model.walker.row import Row, new_row
from sealane.driver.model.walker.span import Probe, WalkerEvent
from sealane.driver.model.walker.walk import Walk
from sealane.hdl.abi.commands import Op, Option
from sealane.hdl.abi.config import WORD_BYTES, Config, header_bytes
from sealane.hdl.abi.meta import ProvenBy, Reason
from sealane.hdl.common import layouts as ports
from tests.support.sequence_numbers import distance

ACK, PSH, SYN, RST, URG, FIN = 0x10, 8, 2, 4, 0x20, 1


@dataclass
class Item:
    """A packet, a command, or (`feedback`) news of a tag, with the fields of its stream."""

    fields: dict
    payload: bytes = b""
    feedback: bool = False


@dataclass
class Expected:
    """What one item makes the walker send."""

    spans: list[dict] = field(default_factory=list)
    text_spans: list[dict] = field(default_factory=list)
    entry: dict = field(default_factory=dict)
    evicted: int = 0
    event: WalkerEvent | None = None
    probe: Probe | None = None


class ModelWalker:
    """Rows by context. `transitions` counts (state and proven before, after); `reasons` the
    front's reasons, and `seen` some things that scenarios should bring about."""

    def __init__(self, config: Config):
        self.config = config
        self.rows: dict[int, Row] = {}
        self.transitions: dict[tuple, int] = {}
        self.seen: dict[str, int] = {}

    def see(self, what):
        self.seen[what] = self.seen.get(what, 0) + 1

    def step(self, item: Item) -> Expected:
        fields = item.fields
        context = (
            fields["context"]
            if item.feedback or not fields["is_command"]
            else fields["command"]["context"]
        )
        row = self.rows.get(context)
        before = row and (row.state.name, row.proven)
        if item.feedback:
            cause = "PROVEN" if fields["proof"] else "DESYNC"
            expected = self._proven(fields, row) if fields["proof"] else self._desync(fields, row)
        elif fields["is_command"]:
            expected = self._command(fields["command"], row)
            cause = Op(fields["command"]["op"]).name
        else:
            expected, cause = self._packet(item, row if fields["hit"] else None), "PACKET"
        after = self.rows.get(context)
        if before and after:
            key = (cause, before, (after.state.name, after.proven))
            self.transitions[key] = self.transitions.get(key, 0) + 1
        return expected

    def _event(self, expected, row, context, event):
        expected.event = event
        if event:
            self.see(f"{event.kind.name} by {event.proven_by.name}")
            expected.entry["event"] = {
                "kind": event.kind,
                "generation": row.generation,
                "context": context,
                "lost_at": event.lost_at,
                "candidate_seq": event.candidate_seq,
                "resumed_at": event.resumed_at,
                "proven_by": event.proven_by,
                "seq": event.seq,
                "number": event.number,
            }

    @staticmethod
    def _token(token, fields, **more):
        return Expected(
            entry={
                "is_token": 1,
                "token": token,
                "context": fields["context"],
                "generation": fields["generation"],
                **more,
            }
        )

    def _desync(self, fields, row):
        if row and row.generation == fields["generation"]:
            walker_commands.desync(row)
        return self._token(ports.TokenKind.DESYNC, fields)

    def _proven(self, fields, row):
        expected = self._token(ports.TokenKind.PROVEN, fields)
        if row and row.generation == fields["generation"]:
            probe = Probe(fields["candidate_seq"], fields["number"])
            event, expected.evicted = walker_commands.tag_proof(self.config, row, probe)
            self._event(expected, row, fields["context"], event)
        return expected

    def _command(self, command, row):
        op, context = command["op"], command["context"]
        key = {"context": context, "generation": command["generation"]}
        if op == Op.CONTEXT_ADD:
            self.rows[context] = new_row(
                self.config,
                command["generation"],
                command["epoch"],
                command["version"],
                command["seq"],
                command["number"],
                Option(command["options"]),
            )
            expected = self._token(ports.TokenKind.ADD, command, has_spans=1)
        elif op == Op.REKEY and row:
            row.version = command["version"]
            walker_commands.rekey(
                self.config,
                row,
                command["generation"],
                command["epoch"],
                command["seq"],
                command["number"],
            )
            expected = self._token(ports.TokenKind.REKEY, command, has_spans=1)
        elif op == Op.CONTEXT_DELETE:
            self.rows.pop(context, None)
            expected = self._token(ports.TokenKind.DELETE, command, has_spans=1)
            expected.spans.append({"kind": ports.SpanKind.KEY_CLEAR, **key})
            return expected
        elif op == Op.GO_ON:
            return self._token(ports.TokenKind.GO_ON, command, park=command["park"])
        else:
            expected = self._token(ports.TokenKind.RESYNC, command)
            if row and row.generation == command["generation"]:
                event = None
                if op == Op.RESYNC_ANSWER:
                    event, expected.evicted = walker_commands.answer(
                        self.config,
                        row,
                        command["seq"],
                        command["number"],
                        bool(command["refused"]),
                    )
                elif op == Op.RESYNC_HINT:
                    event = walker_commands.hint(row, command["seq"], command["number"])
                self._event(expected, row, context, event)
            return expected
        expected.spans.append(
            {
                "kind": ports.SpanKind.KEY_WRITE,
                "version": command["version"],
                "key256": command["key256"],
                **key,
            }
        )
        return expected

    def _packet(self, item, row):
        packet = item.fields["packet"]
        meta = {}
        expected = Expected()
        entry = expected.entry
        entry |= {"ring_word": packet["ring_word"], "oversize": packet["oversize"], "meta": meta}
        context = item.fields["context"]
        if not packet["is_tcp"]:
            meta["reason"] = Reason.OVERSIZE if packet["oversize"] else Reason.NOT_TCP
            self.see(f"reason {Reason(meta['reason']).name}")
            return expected
        meta |= {
            "l4_verified": packet["checksum_ok"],
            "seq": packet["seq"],
            "payload_offset": packet["payload_offset"],
            "payload_length": packet["payload_length"],
        }
        if row:
            entry |= {"context": context, "generation": row.generation}
            meta |= {
                "context": context,
                "generation": row.generation,
                "epoch": row.epoch,
                "context_valid": 1,
            }
        flags = packet["tcp_flags"]
        if not packet["checksum_ok"]:
            meta["reason"] = Reason.BAD_CHECKSUM
        elif not row:
            meta["reason"] = Reason.NO_FLOW
        elif flags & (SYN | RST | URG) or not flags & ACK:
            meta["reason"] = Reason.FLAGS
        elif not item.payload:
            meta["reason"] = Reason.NO_PAYLOAD
        else:
            self._walk(item, row, context, expected, meta)
        self.see(f"reason {Reason(meta['reason']).name}")
        return expected

    def _walk(self, item, row, context, expected, meta):
        packet = item.fields["packet"]
        walked = Walk(self.config, row, packet["seq"], item.payload).run()
        expected.evicted = walked.evicted
        if walked.evicted:
            self.see("evicted")
        self._event(expected, row, context, walked.event)
        if walked.event and walked.event.proven_by is ProvenBy.WALK:
            header = header_bytes(row.version)
            if distance(walked.event.seq, walked.event.candidate_seq) > header:
                self.see("walk past the candidate")
        if sum(not span.first for span in walked.spans) > 1:
            self.see("two pieces of open records")
        expected.probe = walked.probe
        for span in walked.spans:
            if span.probe:
                self.see(f"probe first {span.first} completes {span.completes}")
        if walked.probe:
            expected.entry["probe"] = 1
            meta |= {"first_number": walked.probe.number, "last_start": walked.probe.candidate_seq}
        meta["reason"] = walked.reason
        meta["last_completes"] = int(walked.last[3])
        if walked.reason is Reason.NONE:
            expected.entry["ahead"] = int(walked.ahead)
            self.see(f"ahead {walked.ahead}")
            number, offset, length, nonce, completes = walked.first
            meta |= {
                "records": walked.records,
                "first_number": number,
                "first_offset": offset,
                "first_length": length,
                "first_nonce": nonce,
                "first_completes": int(completes),
                "last_number": walked.last[0],
                "last_start": walked.last[1],
                "last_length": walked.last[2],
            }
        ring = packet["ring_word"] * WORD_BYTES + packet["payload_offset"]
        size = self.config.ring_words * WORD_BYTES
        for span in walked.spans:
            expected.spans.append(
                {
                    "kind": ports.SpanKind.DATA,
                    "context": context,
                    "generation": row.generation,
                    "version": row.version,
                    "slot": span.slot,
                    "number": span.number,
                    "nonce": span.nonce,
                    "content_type": span.content_type,
                    "length": span.length,
                    "ring_byte": (ring + span.at) % size,
                    "text_offset": span.text_offset,
                    "text_bytes": span.text_bytes,
                    "tag_offset": span.tag_offset,
                    "tag_bytes": span.tag_bytes,
                    "first": int(span.first),
                    "completes": int(span.completes),
                    "probe": int(span.probe),
                    "last": int(span is walked.spans[-1]),
                }
            )
            start = packet["payload_offset"] + span.at
            if span.text_bytes:
                expected.text_spans.append({"start": start, "end": start + span.text_bytes})
        expected.entry["has_spans"] = int(bool(walked.spans))
        expected.entry["texts"] = len(expected.text_spans)
        self._notice(row)

    def _notice(self, row):
        """What the row has come to, for the scenarios' coverage."""
        self.see(f"hold {len(row.part_header)}")
        self.see(f"cand_part_header {len(row.cand_part_header)}")
        if row.barrier_end is not None:
            self.see("suspect")
        if None not in row.slots:
            self.see("slots full")
        if None not in row.holes:
            self.see("holes full")
        if sum(hole is not None for hole in row.holes) > 1:
            self.see("several holes")
