# SPDX-License-Identifier: Apache-2.0
"""Commit against a reference that decides with a list of reasons and takes the lowest."""

import random

import pytest
from amaranth.sim import Simulator

from sealane.hdl.abi.config import Config
from sealane.hdl.abi.events import EVENT, EventKind
from sealane.hdl.abi.meta import META, Reason
from sealane.hdl.commit.commit import Commit
from sealane.hdl.common.layouts import Layouts, TokenKind

CONFIG = Config(flows=4, ring_words=128, max_frame=1024)
LAYOUTS = Layouts(CONFIG)
FRAMING = [f.name for f in META if META.offset(f.name) >= META.offset("records")]


class Reference:
    """What commit does, packet by packet."""

    def __init__(self):
        self.rows = [self._row(0) for _ in range(CONFIG.flows)]
        self.feedback = []

    @staticmethod
    def _row(generation):
        return {
            "generation": generation,
            "broken": 0,
            "parked": 0,
            "park_end": 0,
            "park": 0,
            "awaited": 0,
            "number": 0,
        }

    def token(self, entry):
        row = self.rows[entry["context"]]
        same = row["generation"] == entry["generation"]
        if entry["token"] in (TokenKind.ADD, TokenKind.DELETE):
            self.rows[entry["context"]] = self._row(entry["generation"])
        elif entry["token"] == TokenKind.REKEY:
            broken = row["broken"]
            self.rows[entry["context"]] = self._row(entry["generation"]) | {"broken": broken}
            if broken:
                self._feed_back(entry)
        elif entry["token"] == TokenKind.GO_ON and same and row["awaited"] == entry["park"]:
            row["parked"] = 0
        elif entry["token"] == TokenKind.DESYNC and same:
            row["broken"] = 0

    def _feed_back(self, entry, proof=False):
        meta = entry.get("meta", {"last_start": 0, "first_number": 0})
        self.feedback.append(
            entry["context"]
            | entry["generation"] << 2
            | proof << 10
            | meta["last_start"] << 11
            | meta["first_number"] << 43
        )

    def packet(self, entry, verdict):
        """Metadata and own events of a packet; verdict None if it has no spans."""
        meta = dict(entry["meta"])
        row = self.rows[entry["context"]]
        same = row["generation"] == entry["generation"]
        known = same and meta["context_valid"]
        end = meta["seq"] + meta["payload_length"] & 0xFFFFFFFF
        v = verdict or dict.fromkeys(("bad", "stale", "park", "park_last", "number", "proof"), 0)
        overtaken = known and row["parked"] and 0 < (end - row["park_end"]) % 2**32 < 2**31
        bad = v["bad"] and not v["stale"] and not overtaken
        parks = v["park"] and not v["bad"] and not v["stale"]
        reasons = [meta["reason"]] if meta["reason"] else []
        if overtaken or (parks and not (v["park_last"] and meta["last_completes"])):
            reasons.append(Reason.PARKED)
        if bad or (known and row["broken"]):
            reasons.append(Reason.TAG_MISMATCH)
        if v["stale"]:
            reasons.append(Reason.STALE_GENERATION)
        events = []
        event = {
            "generation": entry["generation"],
            "context": entry["context"],
            "seq": end,
            "number": v["number"],
        }
        if bad:
            events.append(event | {"kind": EventKind.TAG_MISMATCH})
            if same and not row["broken"]:
                row["broken"] = 1
                self._feed_back(entry)
        elif parks:
            name = row["park"] + 1 & 0xFF
            events.append(event | {"kind": EventKind.PARKED, "park": name})
            if same:
                if not row["parked"] or (v["number"] - row["number"]) % 2**32 < 2**31:
                    row.update(awaited=name, number=v["number"])
                if not row["parked"] or (end - row["park_end"]) % 2**32 >= 2**31:
                    row["park_end"] = end
                row.update(parked=1, park=name)
        if v["proof"] and entry["probe"] and same and not v["stale"]:
            self._feed_back(entry, proof=True)
        meta["reason"] = min(reasons, default=0)
        meta["decrypted"] = int(not reasons)
        if reasons:
            meta.update(dict.fromkeys([*FRAMING, "first_completes", "last_completes"], 0))
        return meta, events


def text_spans(rng, length):
    """Text spans of a frame, at least 21 bytes apart."""
    spans, at = [], rng.randrange(60)
    while at < length:
        end = min(length, at + rng.choice((1, 2, 15, 16, 17, rng.randrange(1, 400))))
        spans.append((at, end))
        at = end + rng.choice((21, 22, 29, rng.randrange(21, 100)))
    return spans


def scenario(rng, count):
    """`count` entries with their frames, shadow frames, spans and verdicts."""
    generations = [0] * CONFIG.flows
    items = []
    for _ in range(count):
        context = rng.randrange(CONFIG.flows)
        event = {}
        if rng.random() < 0.1:
            kind = rng.choice((EventKind.RESYNC_REQUEST, EventKind.RESUMED, EventKind.GIVEN_UP))
            event = {"kind": kind, "candidate_seq": rng.getrandbits(32), "context": context}
        entry = {
            "context": context,
            "generation": generations[context],
            "event": EVENT.pack(event),
        }
        if rng.random() < 0.05:
            entry["generation"] = rng.randrange(4)
        if rng.random() < 0.25:
            token = rng.choice(
                (
                    TokenKind.ADD,
                    TokenKind.DELETE,
                    TokenKind.DESYNC,
                    TokenKind.DESYNC,
                    TokenKind.RESYNC,
                    TokenKind.PROVEN,
                    TokenKind.GO_ON,
                    TokenKind.GO_ON,
                    TokenKind.GO_ON,
                    TokenKind.REKEY,
                )
            )
            if token in (TokenKind.ADD, TokenKind.DELETE, TokenKind.REKEY):
                generations[context] = entry["generation"] = rng.randrange(4)
            entry.update(is_token=1, token=token, park=rng.randrange(1, 4))
            items.append({"entry": entry})
            continue
        oversize = rng.random() < 0.05
        length = rng.choice((1, 16, 17, 60, 64, rng.randrange(1, 1024)))
        frame = rng.randbytes(rng.randrange(2000, 5000) if oversize else length)
        spans = [] if oversize else text_spans(rng, length)
        meta = {field.name: rng.getrandbits(field.width) for field in META}
        meta.update(
            context=context,
            context_valid=rng.random() < 0.9,
            decrypted=0,
            reason=rng.choice((0, 0, 0, 0, 0, 0, 0, 9, 10, 12, 14, 17)),
            seq=rng.randrange(2000) - 1000 & 0xFFFFFFFF,
            payload_length=length,
        )
        verdict = None
        if not oversize and rng.random() < 0.7:
            verdict = {
                "bad": rng.random() < 0.05,
                "stale": rng.random() < 0.05,
                "verified": 3,
                "park": rng.random() < 0.1,
                "park_last": rng.random() < 0.7,
                "number": rng.getrandbits(64),
            }
            entry["probe"] = rng.random() < 0.3
            verdict["proof"] = not verdict["bad"] and rng.random() < 0.3
        elif oversize:
            meta["reason"] = Reason.OVERSIZE
        entry.update(oversize=oversize, has_spans=verdict is not None, texts=len(spans))
        items.append(
            {
                "entry": entry,
                "meta": meta,
                "frame": frame,
                "shadow": rng.randbytes(len(frame)),
                "spans": spans,
                "verdict": verdict,
            }
        )
    return items


def expect(items):
    """Frames, metadata, events, feedback (packed) and tokens done that a scenario must give."""
    reference = Reference()
    frames, metas, events, tokens = [], [], [], 0
    for item in items:
        entry = item["entry"]
        if EVENT.unpack(entry["event"])["kind"]:
            events.append(entry["event"])
        if entry.get("is_token"):
            reference.token(entry)
            tokens += entry["token"] not in (TokenKind.DESYNC, TokenKind.PROVEN)
            continue
        meta, own = reference.packet(entry | {"meta": item["meta"]}, item["verdict"])
        metas.append(META.pack(meta))
        events += [EVENT.pack(event) for event in own]
        out = bytearray(item["frame"])
        if meta["decrypted"]:
            for start, end in item["spans"]:
                out[start:end] = item["shadow"][start:end]
        frames.append(bytes(out))
    return frames, metas, events, reference.feedback, tokens


def bits(layout, values):
    """A payload's integer out of field values, those of nested layouts packed already."""
    total = 0
    for name, field in layout:
        total |= (int(values.get(name, 0)) & (1 << field.width) - 1) << field.offset
    return total


def words(frame):
    return [
        int.from_bytes(frame[i : i + 16], "little")
        | len(frame[i : i + 16]) << 128
        | (i + 16 >= len(frame)) << 133
        for i in range(0, len(frame), 16)
    ]


def run(items, rng, idle, stall, limit=200_000):
    """Runs a scenario; `idle` and `stall`: chance of a clock without input, without ready.

    Returns frames, metadata, events, feedback, tokens done and clocks. Checks that payloads hold
    while they wait and that metadata precedes frames.
    """
    dut = Commit(CONFIG)
    size = CONFIG.ring_words
    ring, shadow = [0] * size, [0] * size
    frames, metas, events, feedback = [], [], [], []
    wanted = sum("frame" in item for item in items)
    result = {}

    async def memory(ctx):
        late = [(0, 0), (0, 0)]
        async for _, reset, a, b in ctx.tick().sample(dut.commit_word, dut.shadow_word):
            assert not reset
            # The address of clock t was sampled at its end; data stand in clock t + 2.
            ctx.set(dut.commit_data.as_value(), late[0][0])
            ctx.set(dut.shadow_data, late[0][1])
            late = [(ring[a], shadow[b])]

    async def source(ctx):
        write, pending, verdict_queue, spans_in = 0, [], [], []
        todo = list(items)
        loading, copies = [], []  # words of the frame under way and of its shadow

        def admit(item):
            entry = dict(item["entry"])
            if "frame" in item:
                entry["meta"] = META.pack(item["meta"])
                spans_in.extend(item["spans"])
                if item["verdict"] is not None:
                    verdict_queue.append(item)
            pending.append(bits(LAYOUTS.entry, entry))

        while True:
            # The ring is written at the clock edge; a write is visible a clock later.
            for _ in range(2):
                if not loading and todo:
                    item = todo.pop(0)
                    if "frame" not in item:
                        admit(item)
                        continue
                    item["at"] = write
                    loading = words(item["frame"])
                    copies = words(item["shadow"]) if item["verdict"] is None else []
                    if item["entry"]["oversize"]:
                        admit(item)
                        item = None
                free = (ctx.get(dut.read_word) - write - 1) % size
                if loading and free:
                    ring[write] = loading.pop(0)
                    # Until the verdict comes there is anything in the shadow ring.
                    copy = copies.pop(0) if copies else rng.getrandbits(128)
                    shadow[write] = copy & (1 << 128) - 1
                    write = (write + 1) % size
                    if not loading and item:
                        admit(item)
            for stream, queue, layout in (
                (dut.entries, pending, None),
                (dut.text_spans, spans_in, LAYOUTS.text_span),
                (dut.verdicts, verdict_queue, LAYOUTS.verdict),
            ):
                if ctx.get(stream.valid) or not queue:
                    continue
                if queue is not spans_in and rng.random() < idle:
                    continue
                head = queue.pop(0)
                if queue is verdict_queue:
                    copy = head["shadow"]
                    for i in range(0, len(copy), 16):
                        word = int.from_bytes(copy[i : i + 16], "little")
                        shadow[(head["at"] + i // 16) % size] = word
                    value = bits(layout, head["verdict"])
                elif queue is spans_in:
                    value = bits(layout, dict(zip(("start", "end"), head, strict=True)))
                else:
                    value = head
                ctx.set(stream.payload.as_value(), value)
                ctx.set(stream.valid, 1)
            ctx.set(dut.write_word, write)
            _, _, *taken = await ctx.tick().sample(
                dut.entries.ready, dut.text_spans.ready, dut.verdicts.ready
            )
            for stream, ready in zip(
                (dut.entries, dut.text_spans, dut.verdicts), taken, strict=True
            ):
                if ready:
                    ctx.set(stream.valid, 0)

    def sink(stream, put, chance):
        async def process(ctx):
            held = None
            while True:
                ctx.set(stream.ready, rng.random() >= chance)
                _, _, valid, ready, payload = await ctx.tick().sample(
                    stream.valid, stream.ready, stream.payload
                )
                payload = payload if isinstance(payload, int) else payload.as_bits()
                if held is not None:
                    assert valid and payload == held, "payload changed while it waited"
                held = payload if valid and not ready else None
                if valid and ready:
                    put(payload)

        return process

    current = bytearray()

    def put_word(payload):
        assert len(metas) + 1 > len(frames), "frame before its metadata"
        count = payload >> 128 & 31
        current.extend((payload & (1 << 128) - 1).to_bytes(16, "little")[:count])
        if payload >> 133:
            frames.append(bytes(current))
            current.clear()

    async def watch(ctx):
        tokens = clock = 0
        while len(frames) < wanted or len(metas) < wanted or clock < result.get("end", 0):
            _, _, done = await ctx.tick().sample(dut.token_done)
            tokens += done
            clock += 1
            if len(frames) == wanted and "end" not in result:
                result.update(end=clock + 300, clocks=clock)
            assert clock < limit, f"{len(frames)} of {wanted} frames after {clock} clocks"
        result["tokens"] = tokens

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_process(memory)
    simulator.add_testbench(source, background=True)
    for stream, put, chance in (
        (dut.frames, put_word, stall),
        (dut.metas, metas.append, stall),
        (dut.events, events.append, stall),
        (dut.feedback, feedback.append, stall),
    ):
        simulator.add_testbench(sink(stream, put, chance), background=True)
    simulator.add_testbench(watch)
    simulator.run()
    return frames, metas, events, feedback, result["tokens"], result["clocks"]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("idle", "stall"), [(0, 0), (0.8, 0), (0, 0.5), (0.3, 0.3)])
def test_random_packets_match_the_reference(seed, idle, stall):
    rng = random.Random(f"{seed} {idle} {stall}")
    items = scenario(rng, 60)
    assert run(items, rng, idle, stall)[:5] == expect(items)


@pytest.mark.parametrize("length", [64, 500])
def test_frames_leave_back_to_back(length):
    rng = random.Random(length)
    items = [
        {
            "entry": {
                "context": 1,
                "generation": 0,
                "event": 0,
                "has_spans": 0,
                "texts": 1,
                "oversize": 0,
            },
            "meta": dict.fromkeys((f.name for f in META), 0) | {"payload_length": length},
            "frame": rng.randbytes(length),
            "shadow": bytes(length),
            "spans": [(1, length)],
            "verdict": None,
        }
        for _ in range(40)
    ]
    frames, *_, clocks = run(items, rng, 0, 0)
    assert frames == expect(items)[0]
    words_out = 40 * -(-length // 16)
    # The source loads two words a clock, so the output alone sets the pace: no gap at all between
    # frames, beside the latency of the first.
    assert clocks <= words_out + 40
