# SPDX-License-Identifier: Apache-2.0
"""Random traffic of TLS-shaped streams for the walker, with a driver that may answer badly."""

import random
from dataclasses import dataclass, field

from rtl_tests.walker.model import ACK, FIN, PSH, RST, SYN, URG, Item, ModelWalker
from sealane.hdl.abi.commands import Op, Option
from sealane.hdl.abi.config import LENGTH_BOUNDS, TYPES, VERSION_TLS12, VERSION_TLS13, Config
from sealane.hdl.abi.events import EventKind
from tests.support.sequence_numbers import distance

TINY, SHORT, MIXED, LONG = "tiny", "short", "mixed", "long"


# Of the flows, by context.
OPTIONS = (Option.TAG_PROOF | Option.MARK_REST, Option.ONE_BIT, Option.TAG_PROOF, Option.MARK_REST)


@dataclass
class TrafficProfile:
    """How badly things go; probabilities for each segment unless said otherwise."""

    records: str = MIXED
    chains: float = 0.3  # that a record's text is full of headers
    bad_header: float = 0.0  # of a record
    loss: float = 0.03
    delay: float = 0.1
    duplicate: float = 0.05
    overlap: float = 0.05
    garbage: float = 0.02
    far: float = 0.01
    command: float = 0.03
    other: float = 0.05  # packets that are not walked
    desync: float = 0.005
    right: float = 0.5  # of an answer; the others are wrong, refused, or missing
    proof: float = 0.3  # of a record that completes under a guessed number


@dataclass
class Flow:
    """One direction of a connection: its bytes, and what the driver knows of it."""

    context: int
    version: int
    base: int
    content: bytes
    headers: dict[int, int]  # offset in the content -> record number
    generation: int = 1
    segments: list[tuple[float, int, int]] = field(default_factory=list)
    answers: list[tuple[int, dict]] = field(default_factory=list)
    proofs: list[tuple[int, dict]] = field(default_factory=list)


def make_content(rng, version, size, profile):
    """At least `size` bytes of records; returns them and where the headers are."""
    low, high = LENGTH_BOUNDS[version]
    content = bytearray()
    headers = []
    while len(content) < size:
        kind = (
            rng.choice((profile.records, TINY, SHORT))
            if profile.records == MIXED
            else profile.records
        )
        if profile.records == MIXED and rng.random() < 0.1:
            kind = LONG
        length = {
            TINY: lambda: low + rng.choice((0, 0, 1, 2, 5, 8)),
            SHORT: lambda: rng.randrange(low, 200),
            MIXED: lambda: rng.randrange(low, 3000),
            LONG: lambda: rng.choice((high, rng.randrange(low, high))),
        }[kind]()
        headers.append(len(content))
        header = bytearray((rng.choice(TYPES[version]), 3, 3, *length.to_bytes(2, "big")))
        if rng.random() < profile.bad_header:
            header[rng.randrange(5)] ^= 1 << rng.randrange(8)
        content += header
        body = bytearray(rng.randbytes(length))
        if rng.random() < profile.chains:
            false = rng.choice((low, 17, 24, 40, 256, rng.randrange(300)))
            chain = bytes((23, 3, 3, *false.to_bytes(2, "big"))) + bytes(false % 60)
            at = rng.randrange(len(body))
            chain = chain * rng.randrange(1, 4)
            body[at : at + len(chain)] = chain
            del body[length:]
        content += body
    return bytes(content), headers


class Scenario:
    """Flows, and one list of items with what the model says to each."""

    def __init__(
        self, config: Config, seed: int, profile: TrafficProfile, flows: int = 3, size: int = 20_000
    ):
        self.config = config
        self.rng = random.Random(seed)
        self.profile = profile
        self.model = ModelWalker(config)
        self.items: list = []
        self.flows = [self._flow(i, size) for i in range(flows)]
        self._run()

    # --- streams and segments ---------------------------------------------------------------

    def _flow(self, context, size):
        rng = self.rng
        version = rng.choice((VERSION_TLS12, VERSION_TLS13))
        content, headers = make_content(rng, version, size, self.profile)
        base = rng.choice((rng.getrandbits(32), -rng.randrange(size) % 2**32))
        number = rng.choice((0, 5, 2**32 - 3, 2**64 - 2))
        numbers = {at: (number + i) % 2**64 for i, at in enumerate(headers)}
        flow = Flow(context, version, base, content, numbers)
        self._cut(flow, headers)
        return flow

    def _cut(self, flow, headers):
        """Segments in the order of arrival."""
        rng, profile, size = self.rng, self.profile, len(flow.content)
        style = rng.choice(("any", "any", "mss", "tiny", "headers"))
        at, index = 0, 0
        while at < size:
            if style == "headers":
                following = [h for h in headers if h + 14 > at][:1] or [size]
                end = following[0] + rng.randrange(0, 15)
                count = max(1, min(end - at, 1500))
            else:
                count = {
                    "any": rng.randrange(1, 1501),
                    "mss": 1448,
                    "tiny": rng.randrange(1, 60),
                }[style]
            end = min(size, at + count)
            when = float(index)
            if rng.random() >= profile.loss:
                late = rng.random() < profile.delay
                flow.segments.append((when + (rng.expovariate(0.2) if late else 0), at, end))
            elif rng.random() < 0.7:
                flow.segments.append((when + rng.expovariate(0.05), at, end))
            if rng.random() < profile.duplicate:
                flow.segments.append((when + rng.expovariate(0.2), at, end))
            if rng.random() < profile.overlap:
                start = max(0, at - rng.randrange(1500))
                stop = min(size, start + rng.randrange(1, 1501))
                flow.segments.append((when + rng.choice((-1, 1)) * rng.random() * 5, start, stop))
            at, index = end, index + 1
        flow.segments.sort()

    # --- items --------------------------------------------------------------------------------

    def _give(self, item, flow=None):
        expected = self.model.step(item)
        self.items.append((item, expected))
        if flow and expected.event and expected.event.kind is EventKind.RESYNC_REQUEST:
            self._answer_later(flow, expected.event.candidate_seq)
        if flow and expected.probe and self.rng.random() < self.profile.proof:
            proof = {"candidate_seq": expected.probe.candidate_seq, "number": expected.probe.number}
            if self.rng.random() < 0.1:
                proof["candidate_seq"] += 1
            flow.proofs.append((len(self.items) + self.rng.choice((0, 0, 0, 1, 3)), proof))
        return expected

    def _command(self, op, flow, **fields):
        fields = {
            "op": op,
            "context": flow.context,
            "generation": flow.generation,
            "epoch": 0,
            "version": flow.version,
            "key256": 0,
            "refused": 0,
            "park": 0,
            "seq": 0,
            "number": 0,
            "options": 0,
        } | fields
        self._give(Item({"is_command": 1, "command": fields}), flow)

    def _packet(self, flow, seq, payload, **changes):
        rng = self.rng
        hit = changes.pop("hit", 1)
        packet = {
            "ring_word": rng.randrange(self.config.ring_words),
            "oversize": 0,
            "is_tcp": 1,
            "checksum_ok": 1,
            "seq": seq,
            "tcp_flags": ACK | rng.choice((0, PSH, FIN, 0x80)),
            "payload_offset": rng.choice((54, 66, 78, 86)),
            "payload_length": len(payload),
        } | changes
        fields = {"is_command": 0, "packet": packet, "hit": hit, "context": flow.context}
        self._give(Item(fields, payload), flow)

    def _install(self, flow):
        first = min(flow.headers)
        self._command(
            Op.CONTEXT_ADD,
            flow,
            epoch=self.rng.randrange(256),
            key256=self.rng.randrange(2),
            options=OPTIONS[flow.context % len(OPTIONS)],
            seq=(flow.base + first) % 2**32,
            number=flow.headers[first],
        )

    def _answer_later(self, flow, candidate_seq):
        rng = self.rng
        offset = distance(candidate_seq, flow.base)
        true = flow.headers.get(offset)
        draw = rng.random()
        when = len(self.items) + int(rng.expovariate(0.2))
        if draw < self.profile.right:
            answer = {"number": true} if true is not None else {"refused": 1}
        elif draw < self.profile.right + 0.1:
            answer = {"number": rng.getrandbits(64)}
        elif draw < self.profile.right + 0.2:
            answer = {"refused": 1}
        else:
            return
        for _ in range(rng.choice((1, 1, 1, 2))):
            seq = candidate_seq if rng.random() < 0.95 else (candidate_seq + 1) % 2**32
            flow.answers.append((when, {"seq": seq, **answer}))
            when += rng.randrange(1, 10)

    def _random_command(self, flow, at):
        """A driver that does what it likes; `at` is about where the stream is."""
        rng = self.rng
        known = [h for h in flow.headers if abs(h - at) < 5000] or [0]
        header = rng.choice(known)
        place = {"seq": (flow.base + header) % 2**32, "number": flow.headers[header]}
        row = self.model.rows.get(flow.context)
        draw = rng.random()
        if draw < 0.3:
            if rng.random() < 0.1:
                place["generation"] = flow.generation ^ 1
            self._command(Op.RESYNC_HINT, flow, **place)
        elif draw < 0.5:
            self._command(Op.GO_ON, flow, park=rng.randrange(256))
        elif draw < 0.65:
            self._command(Op.RESYNC_ANSWER, flow, **place)
        elif draw < 0.9:
            flow.generation = flow.generation + 1 & 0xFF
            if row and rng.random() < 0.7:
                place["number"] = max(0, row.number - rng.randrange(4))
            elif row and rng.random() < 0.5:
                place["number"] = row.number + 1 & 2**64 - 1
            if rng.random() < 0.5:
                flow.version ^= 0 if rng.random() < 0.9 else 1
            self._command(Op.REKEY, flow, epoch=rng.randrange(256), **place)
        else:
            self._command(Op.CONTEXT_DELETE, flow)
            if rng.random() < 0.2:
                self._command(rng.choice((Op.REKEY, Op.RESYNC_HINT)), flow, **place)
            if rng.random() < 0.9:
                flow.generation = flow.generation + 1 & 0xFF
                self._command(Op.CONTEXT_ADD, flow, **place)

    def _strange_packet(self, flow, seq):
        rng = self.rng
        some = rng.randbytes(rng.randrange(1, 40))
        change = rng.choice(
            (
                {"is_tcp": 0},
                {"is_tcp": 0, "oversize": 1},
                {"checksum_ok": 0},
                {"hit": 0},
                {"tcp_flags": ACK | SYN},
                {"tcp_flags": ACK | RST},
                {"tcp_flags": ACK | URG},
                {"tcp_flags": PSH},
                {"checksum_ok": 0, "tcp_flags": SYN, "hit": 0},
                {},
            )
        )
        if not change.get("is_tcp", 1):
            change["hit"] = 0
        self._packet(flow, seq, some if change else b"", **change)

    def _run(self):
        rng = self.rng
        for flow in self.flows:
            if rng.random() < 0.95:
                self._install(flow)
        waiting = [list(reversed(flow.segments)) for flow in self.flows]
        while any(waiting):
            index = rng.choice([i for i, segments in enumerate(waiting) if segments])
            flow, segments = self.flows[index], waiting[index]
            for _ in range(min(len(segments), rng.randrange(1, 4))):
                self._give_proofs(flow)
                _, start, end = segments.pop()
                seq = (flow.base + start) % 2**32
                self._disturb(flow, seq, start)
                self._packet(flow, seq, flow.content[start:end])
                due = [answer for when, answer in flow.answers if when <= len(self.items)]
                flow.answers = [a for a in flow.answers if a[0] > len(self.items)]
                for answer in due:
                    self._command(Op.RESYNC_ANSWER, flow, **answer)

    def _give_proofs(self, flow):
        for when, proof in list(flow.proofs):
            if when <= len(self.items):
                flow.proofs.remove((when, proof))
                fields = {"context": flow.context, "generation": flow.generation, "proof": 1}
                self._give(Item(fields | proof, feedback=True), flow)

    def _disturb(self, flow, seq, at):
        rng, profile = self.rng, self.profile
        if rng.random() < profile.other:
            self._strange_packet(flow, seq)
        if rng.random() < profile.garbage:
            near = (seq + rng.randrange(-3000, 3000)) % 2**32
            self._packet(flow, near, rng.randbytes(rng.randrange(1, 1500)))
        if rng.random() < profile.far:
            window = self.config.window
            edge = rng.choice((-window - 2, -window, window, 2**31, rng.getrandbits(32)))
            start = rng.randrange(len(flow.content))
            payload = flow.content[start : start + rng.randrange(1, 1500)]
            self._packet(flow, (seq + edge + rng.randrange(3)) % 2**32, payload)
        if rng.random() < profile.command:
            self._random_command(flow, at)
        if rng.random() < profile.desync:
            generation = flow.generation ^ (rng.random() < 0.1)
            self._give(
                Item(
                    {
                        "context": flow.context,
                        "generation": generation,
                        "proof": 0,
                        "candidate_seq": 0,
                        "number": 0,
                    },
                    feedback=True,
                ),
                flow,
            )
