# SPDX-License-Identifier: Apache-2.0
"""Rings, streams and frames around the last stages of transmit, clock by clock."""

from collections import deque
from dataclasses import dataclass, field

from sealane.hdl.abi.config import Config

CONFIG = Config(flows=4, tx_flows=4, ring_words=128, tx_ring_words=128, max_frame=1024)
SIZE = CONFIG.tx_ring_words


@dataclass
class Frame:
    """A frame of the host, and what the text ring holds in its place when its job is given.

    spans: clear spans, offsets in the frame. written: a bit for each byte.
    """

    host: bytes
    text: bytes
    written: list[int]
    payload_at: int = 0
    payload_end: int = 0
    checksum_at: int = 0
    spans: list[tuple[int, int]] = field(default_factory=list)

    def encrypted(self, checksum):
        """What leaves of it, byte by byte; checksum: two bytes."""
        out = bytearray(len(self.host))
        for at in range(len(self.host)):
            if at < self.payload_at:
                out[at] = self.host[at]
            elif at < self.payload_end:
                if any(start <= at < end for start, end in self.spans):
                    out[at] = self.host[at]
                elif self.written[at]:
                    out[at] = self.text[at]
        out[self.checksum_at : self.checksum_at + 2] = checksum
        return bytes(out)


def clear_spans(rng, start, end, longest=200):
    """Headers (5 or 13 bytes) of records in a payload, 17 bytes or more apart."""
    spans, at = [], start + rng.choice((0, 0, rng.randrange(40)))
    while at < end:
        stop = min(end, at + rng.choice((5, 13)))
        spans.append((at, stop))
        at = stop + rng.choice((17, 18, 33, rng.randrange(17, longest)))
    return spans


def random_frame(rng, length=None, written=0.9):
    """A frame whose payload begins where that of TCP may, and is partly written."""
    length = length or rng.choice((60, 64, 75, rng.randrange(60, 400), rng.randrange(60, 1024)))
    start = rng.choice([at for at in (54, 58, 66, 74, 86) if at <= length])
    end = rng.choice((length, length, rng.randrange(start, length + 1)))
    return Frame(
        host=rng.randbytes(length),
        text=rng.randbytes(length),
        written=[int(rng.random() < written) for _ in range(length)],
        payload_at=start,
        payload_end=end,
        checksum_at=start - 4,
        spans=clear_spans(rng, start, end),
    )


class Source:
    """Offers payloads at an input stream; `idle`: chance of a clock without one."""

    def __init__(self, unit, port, rng, idle=0.0):
        self.queue = deque()
        self._unit, self._port, self._rng, self._idle = unit, port, rng, idle
        self._valid = False

    def offer(self):
        """In front of the clock edge; the payload that is newly offered, or None."""
        if self._valid or not self.queue or self._rng.random() < self._idle:
            return None
        self._unit.set(f"{self._port}__payload", self.queue[0])
        self._unit.set(f"{self._port}__valid", 1)
        self._valid = True
        return self.queue[0]

    def settle(self):
        """What is taken at the coming edge; call `drop` behind the edge then."""
        return self._valid and self._unit.get(f"{self._port}__ready")

    def drop(self):
        """The payload was taken."""
        self.queue.popleft()
        self._unit.set(f"{self._port}__valid", 0)
        self._valid = False


class Sink:
    """Takes payloads from an output stream and checks that they stay until they are taken."""

    def __init__(self, unit, port, rng, stall=0.0):
        self.got = []
        self._unit, self._port, self._rng, self.stall = unit, port, rng, stall
        self._held = None

    def offer(self):
        """In front of the clock edge."""
        self._unit.set(f"{self._port}__ready", self._rng.random() >= self.stall)

    def settle(self):
        """Takes what is offered; ports have settled."""
        valid = self._unit.get(f"{self._port}__valid")
        payload = self._unit.get(f"{self._port}__payload")
        if self._held is not None:
            assert valid and payload == self._held, "payload changed while it waited"
        ready = self._unit.get(f"{self._port}__ready")
        self._held = payload if valid and not ready else None
        if valid and ready:
            self.got.append(payload)


class Rings:
    """Host ring and text ring at the reader's ports, two clocks from address to data.

    Frames come into the host ring as far as there is room, up to two words a clock. In the text
    ring there is anything, all of it new, until `settle` puts a frame's own.
    """

    def __init__(self, unit, rng):
        self._unit, self._rng = unit, rng
        self._host, self._text = [0] * SIZE, [(0, 0)] * SIZE
        self._late = [(0, 0, 0)]
        self._write = 0
        self._loading = deque()
        self._behind = None
        self.waiting = deque()  # (frame, what to call when it is in the ring)
        self.early = {}  # what to call when a frame begins, by the frame's id

    def load(self):
        """In front of the clock edge: what comes into the host ring."""
        for _ in range(2):
            if not self._loading:
                if not self.waiting:
                    break
                frame, self._behind = self.waiting.popleft()
                frame.at = self._write
                self._loading.extend(words(frame.host))
                self.early.get(id(frame), lambda: None)()
            if (self._unit.get("read_word") - self._write - 1) % SIZE == 0:
                break
            self._host[self._write] = self._loading.popleft()
            self._text[self._write] = self._rng.getrandbits(128), 0xFFFF
            self._write = (self._write + 1) % SIZE
            if not self._loading:
                self._behind()
        self._unit.set("write_word", self._write)

    def settle(self, frame):
        """The cipher has written what it writes of this frame."""
        for i in range(0, len(frame.host), 16):
            bits = sum(bit << j for j, bit in enumerate(frame.written[i : i + 16]))
            text = int.from_bytes(frame.text[i : i + 16], "little")
            self._text[(frame.at + i // 16) % SIZE] = text, bits

    def drained(self):
        """Whether all frames came in and were consumed."""
        return (
            not self.waiting and not self._loading and (self._unit.get("read_word") == self._write)
        )

    def read(self):
        """In front of the clock edge, ports settled; what to drive behind it."""
        word = self._unit.get("ring_word")
        self._late.append((self._host[word], *self._text[word]))
        return self._late.pop(0)

    def drive(self, answer):
        """Behind the clock edge."""
        for port, value in zip(("ring_data", "text_data", "text_written"), answer, strict=True):
            self._unit.set(port, value)


def words(frame):
    """A frame as words of the ring."""
    return [
        int.from_bytes(frame[i : i + 16], "little")
        | len(frame[i : i + 16]) << 128
        | (i + 16 >= len(frame)) << 133
        for i in range(0, len(frame), 16)
    ]


def frames_of(payloads):
    """Frames out of words that left."""
    frames, current = [], bytearray()
    for payload in payloads:
        count = payload >> 128 & 31
        current += (payload & (1 << 128) - 1).to_bytes(16, "little")[:count]
        if payload >> 133:
            frames.append(bytes(current))
            current.clear()
    assert not current, "a frame without end"
    return frames


class Bench:
    """A unit with its rings, sources and sinks, by name of port."""

    def __init__(self, unit, rng, sources, sinks):
        self.unit, self.rng = unit, rng
        self.rings = Rings(unit, rng)
        self.sources = {p: Source(unit, p, rng, idle) for p, idle in sources.items()}
        self.sinks = {p: Sink(unit, p, rng, stall) for p, stall in sinks.items()}
        self.clocks = 0
        self.on_offer = {}  # by port: called with the payload when it is offered first
        self.on_clock = lambda: None  # ports have settled

    def clock(self):
        """One clock."""
        self.rings.load()
        for port, source in self.sources.items():
            payload = source.offer()
            if payload is not None and port in self.on_offer:
                self.on_offer[port](payload)
        for sink in self.sinks.values():
            sink.offer()
        self.on_clock()
        for sink in self.sinks.values():
            sink.settle()
        taken = [source for source in self.sources.values() if source.settle()]
        answer = self.rings.read()
        self.unit.tick()
        self.clocks += 1
        self.rings.drive(answer)
        for source in taken:
            source.drop()

    def run(self, done, limit=100_000, after=300):
        """Until `done()`, then `after` clocks more; returns clocks until then."""
        while not done():
            self.clock()
            assert self.clocks < limit, "it hangs"
        clocks = self.clocks
        for _ in range(after):
            self.clock()
        return clocks
