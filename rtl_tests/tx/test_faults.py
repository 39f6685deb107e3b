# SPDX-License-Identifier: Apache-2.0
"""Back end of transmit, both rings and commit: what leaves when writes of the cipher are lost."""

import random

import pytest
from amaranth.hdl import Module
from amaranth.lib import stream
from amaranth.lib.wiring import Component, In, Out, connect, flipped

from rtl_tests.tx.bench import CONFIG, SIZE, Sink, Source, clear_spans, frames_of, words
from sealane.hdl.abi.tx import TX_STATUS, TxReason
from sealane.hdl.common.layouts import Word
from sealane.hdl.common.ring import PacketRing
from sealane.hdl.common.tx_layouts import Action, TxLayouts, tx_config
from sealane.hdl.tx.commit import Beat, TxCommit
from sealane.hdl.tx.ring import TextRing
from sealane.sim.unit import build

LAYOUTS = TxLayouts(CONFIG)


class BackEnd(Component):
    """Host ring, text ring and commit as a device joins them."""

    def __init__(self):
        super().__init__(
            {
                "write_en": In(1),
                "write_word": In(LAYOUTS.word_bits),
                "write_data": In(Word),
                "read_word": Out(LAYOUTS.word_bits),
                "text_en": In(1),
                "text_addr": In(LAYOUTS.byte_bits),
                "text_data": In(128),
                "text_mask": In(16),
                "outcomes": In(stream.Signature(LAYOUTS.outcome)),
                "entries": In(stream.Signature(LAYOUTS.entry)),
                "clear_spans": In(stream.Signature(LAYOUTS.clear_span)),
                "tags": In(stream.Signature(128)),
                "frames": Out(stream.Signature(Word)),
                "completions": Out(stream.Signature(Beat)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.host = host = PacketRing(tx_config(CONFIG))
        m.submodules.text = text = TextRing(CONFIG)
        m.submodules.commit = commit = TxCommit(CONFIG)
        connect(m, flipped(self.outcomes), text.outcomes)
        connect(m, text.verdicts, commit.verdicts)
        for name in ("entries", "clear_spans", "tags"):
            connect(m, flipped(getattr(self, name)), getattr(commit, name))
        for name in ("frames", "completions"):
            connect(m, getattr(commit, name), flipped(getattr(self, name)))
        m.d.comb += [
            host.write_en.eq(self.write_en),
            host.write_word.eq(self.write_word),
            host.write_data.eq(self.write_data),
            text.clear_en.eq(self.write_en),
            text.clear_word.eq(self.write_word),
            text.text_en.eq(self.text_en),
            text.text_addr.eq(self.text_addr),
            text.text_data.eq(self.text_data),
            text.text_mask.eq(self.text_mask),
            host.commit_word.eq(commit.ring_word),
            text.read_word.eq(commit.ring_word),
            commit.ring_data.eq(host.commit_data),
            commit.text_data.eq(text.read_data),
            commit.text_written.eq(text.read_written),
            commit.write_word.eq(self.write_word),
            self.read_word.eq(commit.read_word),
        ]
        return m


class Host:
    """Sends frames whose payload is marked plaintext and plays the cipher, with faults.

    Plaintext of frame k is all `plain(k)`, its ciphertext all `cipher(k)`, tags too.
    """

    def __init__(self, rng, stall=0.0):
        self.unit, self.rng = build(BackEnd, name="tx_back_end"), rng
        ports = ("outcomes", "entries", "clear_spans", "tags")
        self.sources = {port: Source(self.unit, port, rng) for port in ports}
        self.sinks = {p: Sink(self.unit, p, rng, stall) for p in ("frames", "completions")}
        self.place, self.sent = 0, []

    def clock(self, **inputs):
        """One clock; inputs: ports that are driven in it, otherwise idle."""
        unit = self.unit
        unit.set("write_word", self.place)
        for port in ("write_en", "text_en"):
            unit.set(port, 0)
        for port, value in inputs.items():
            unit.set(port, value)
        for end in (*self.sources.values(), *self.sinks.values()):
            end.offer()
        for sink in self.sinks.values():
            sink.settle()
        taken = [source for source in self.sources.values() if source.settle()]
        unit.tick()
        for source in taken:
            source.drop()

    def offer(self, port, **fields):
        """A payload for a stream."""
        shape = self.unit.shapes[f"{port}__payload"]
        self.sources[port].queue.append(shape.const(fields).as_value().value)

    def send(self, length=600, *, uncounted=(), counted=()):
        """A frame; the named slots of its text are lost, and counted as written or not."""
        number = len(self.sent)
        plain, cipher = 0x80 + number % 64, 0x10 + number % 64
        spans = clear_spans(self.rng, 54, length, 120)
        frame = bytearray(self.rng.randrange(0xE0, 0xF0) for _ in range(54))
        frame += bytes([plain]) * (length - 54)
        for start, end in spans:
            frame[start:end] = bytes([0xD0]) * (end - start)
        self.sent.append((bytes(frame), spans, plain, cipher))
        start = self.place
        for word in words(frame):
            while (self.unit.get("read_word") - self.place - 1) % SIZE == 0:
                self.clock()
            self.clock(write_en=1, write_data=word)
            self.place = (self.place + 1) % SIZE
        for _ in range(8):  # parser, flow table and walker
            self.clock()
        edges = [54, *(at for span in spans for at in span), length]
        holes = [(a, b) for a, b in zip(edges[::2], edges[1::2], strict=True) if b > a]
        written, slot = 0, 0
        for a, b in holes:
            # The last 16 bytes of a hole are a tag.
            for at in range(a, b, 16):
                count = min(16, b - at)
                mask, data = (1 << count) - 1, int.from_bytes(bytes([cipher]) * 16, "little")
                address = (start * 16 + at) % (SIZE * 16)
                tag = b - at <= 16
                if slot not in uncounted:
                    written += count
                if slot in (*uncounted, *counted):
                    pass
                elif tag:
                    self.offer("outcomes", address=address, mask=mask, tag=data)
                else:
                    self.clock(text_en=1, text_addr=address, text_data=data, text_mask=mask)
                slot += 1
        assert slot > max((*uncounted, *counted), default=-1)
        self.offer("outcomes", is_verdict=1, verdict={"written": written})
        for a, b in spans:
            self.offer("clear_spans", start=a, end=b)
        self.offer(
            "entries",
            action=Action.ENCRYPT,
            op=2,
            cookie=number,
            has_spans=1,
            clears=len(spans),
            expected=sum(b - a for a, b in holes),
            payload_at=54,
            payload_end=length,
            checksum_at=50,
        )

    def finish(self):
        """Frames that left, by number, and reasons."""
        for _ in range(1500):
            self.clock()
        beats = self.sinks["completions"].got
        statuses = [TX_STATUS.unpack(beat & (1 << 128) - 1) for beat in beats]
        assert [status["cookie"] for status in statuses] == list(range(len(self.sent)))
        left = [status["cookie"] for status in statuses if not status["reason"]]
        frames = frames_of(self.sinks["frames"].got)
        reasons = [status["reason"] for status in statuses]
        return dict(zip(left, frames, strict=True)), reasons

    def judge(self, number, out):
        """How many bytes of text are 0; no other may be anything but this frame's ciphertext."""
        frame, spans, _, cipher = self.sent[number]
        assert len(out) == len(frame)
        clear = {at for a, b in spans for at in range(a, b)}
        zeros = 0
        for at, (byte, was) in enumerate(zip(out, frame, strict=True)):
            if at in (50, 51):
                continue
            if at < 54 or at in clear:
                assert byte == was
            else:
                assert byte in (cipher, 0)
                zeros += byte == 0
        return zeros


@pytest.mark.parametrize("stall", [0, 0.5])
def test_whole_frames_leave_as_ciphertext(stall):
    """Frames of all lengths over and over the same places of the rings."""
    rng = random.Random(stall)
    host = Host(rng, stall)
    for _ in range(40):
        host.send(rng.choice((60, 64, 100, 600, 1000)))
    frames, reasons = host.finish()
    assert not any(reasons)
    assert [host.judge(number, out) for number, out in frames.items()] == [0] * 40


@pytest.mark.parametrize("lost", [0, 3, 9])
def test_text_write_lost_drops_the_frame(lost):
    """A slot that was never written is missing in the count: DEVICE_ERROR, nothing leaves."""
    host = Host(random.Random(lost))
    for _ in range(7):
        host.send()
    faulty = len(host.sent)
    host.send(uncounted=[lost])
    host.send()
    frames, reasons = host.finish()
    assert reasons == [0] * faulty + [TxReason.DEVICE_ERROR, 0]
    assert faulty not in frames
    assert all(host.judge(number, out) == 0 for number, out in frames.items())


@pytest.mark.parametrize("stall", [0, 0.5])
def test_a_write_lost_behind_the_count_leaves_zeros(stall):
    """Even if the count is deceived, neither plaintext nor an earlier frame's bytes leave."""
    rng = random.Random(stall)
    host = Host(rng, stall)
    for _ in range(30):
        host.send(counted=rng.sample(range(25), 5) if rng.random() < 0.5 else ())
    frames, reasons = host.finish()
    assert not any(reasons) and len(frames) == 30
    zeros = [host.judge(number, out) for number, out in frames.items()]
    assert 0 in zeros and max(zeros) >= 48
