# SPDX-License-Identifier: Apache-2.0
"""The walker under Verilator with the ring, its neighbours and their stalls played by Python."""

import random

from amaranth.hdl import Shape
from amaranth.lib import data

from rtl_tests.walker.model import Item, ModelWalker
from sealane.hdl.abi.config import WORD_BYTES
from sealane.hdl.common.layouts import Layouts
from sealane.hdl.walker.walker import Walker
from sealane.sim.unit import build, unpack

NOISE = bytes.fromhex("1703030020") * 8  # around the payload: would be headers
LIMIT = 20_000  # clocks without an entry


_known: dict = {}  # layouts are not hashable: by identity, and kept so that it stays theirs


def _places(shape):
    """Position and width of each field, and its shape if it has fields itself."""
    if id(shape) not in _known:
        _known[id(shape)] = (
            shape,
            {
                name: (
                    field.offset,
                    field.shape if isinstance(field.shape, data.StructLayout) else None,
                    Shape.cast(field.shape).width,
                )
                for name, field in shape
            },
        )
    return _known[id(shape)][1]


def pack(shape, values):
    """One integer out of nested dicts; fields not named are 0."""
    places = _places(shape)
    word = 0
    for name, value in values.items():
        offset, inner, width = places[name]
        value = pack(inner, value) if inner is not None else int(value)
        assert not value >> width, (name, value)
        word |= value << offset
    return word


class Bench:
    """Gives items to a walker and checks all that it sends against the model.

    stall: probability that a consumer is not ready in a clock.
    """

    def __init__(self, config, seed=0, stall=0.0):
        self.config = config
        self.layouts = Layouts(config)
        self.unit = build(Walker, config, name="walker")
        self.random = random.Random(seed)
        self.stall = stall
        self.ring = bytearray(config.ring_words * WORD_BYTES)
        self.read = [0, 0]
        self.clocks = 0
        self.outputs = {
            "spans": self.layouts.span,
            "text_spans": self.layouts.text_span,
            "entries": self.layouts.entry,
        }
        self.got = {name: [] for name in self.outputs}
        self.waiting = {}  # payloads that were not taken
        self.evicted = 0
        self.done = 0

    def put(self, address, content):
        """Write bytes into the ring, from any address on."""
        size = len(self.ring)
        address %= size
        first = content[: size - address]
        self.ring[address : address + len(first)] = first
        self.ring[: len(content) - len(first)] = content[len(first) :]

    def clock(self):
        """One clock; keeps what was transferred."""
        unit = self.unit
        late, self.read = self.read[0], [self.read[1], unit.get("walker_addr")]
        block = self.ring[late : late + 16]
        block += self.ring[: 16 - len(block)]
        unit.set("walker_data", int.from_bytes(block, "little"))
        taken = {}
        for name in self.outputs:
            ready = self.stall == 0 or self.random.random() >= self.stall
            unit.set(f"{name}__ready", int(ready))
        for name in self.outputs:
            if unit.get(f"{name}__valid"):
                payload = unit.get(f"{name}__payload")
                waiting = self.waiting.get(name)
                assert waiting in (None, payload), f"{name} changed while it waited"
                if unit.get(f"{name}__ready"):
                    self.got[name].append(payload)
                    taken[name] = None
                else:
                    taken[name] = payload
        self.waiting = taken
        self.evicted += unit.get("evicted")
        self.done += unit.get("work__ready") and unit.get("work__valid")
        self.done += unit.get("feedback__ready") and unit.get("feedback__valid")
        unit.tick()
        self.clocks += 1

    def give(self, item: Item):
        """Offer an item until it is taken; returns the clocks that it took."""
        unit = self.unit
        if item.feedback:
            unit.set("feedback__payload", pack(self.layouts.feedback, item.fields))
            unit.set("feedback__valid", 1)
        else:
            if not item.fields["is_command"]:
                packet = item.fields["packet"]
                at = packet["ring_word"] * WORD_BYTES + packet["payload_offset"]
                self.put(at - len(NOISE), NOISE + item.payload + NOISE)
            unit.set("work__payload", pack(self.layouts.work, item.fields))
            unit.set("work__valid", 1)
        begin, done = self.clocks, self.done
        while self.done == done:
            self.clock()
            assert self.clocks - begin < LIMIT, "the walker stands still"
        unit.set("feedback__valid", 0)
        unit.set("work__valid", 0)
        return self.clocks - begin

    def drain(self):
        """Let everything out."""
        for _ in range(40 if self.stall == 0 else 400):
            self.clock()

    def check(self, items):
        """Run items through both; raises AssertionError at the first difference."""
        expected = {name: [] for name in self.outputs}
        evicted = 0
        for _, want in items:
            expected["spans"] += want.spans
            expected["text_spans"] += want.text_spans
            expected["entries"].append(want.entry)
            evicted += want.evicted
        for name in self.outputs:
            self.got[name].clear()
        self.evicted = 0
        for item, _ in items:
            self.give(item)
        self.drain()
        for name in ("entries", "spans", "text_spans"):
            shape = self.outputs[name]
            for index, (got, want) in enumerate(zip(self.got[name], expected[name], strict=False)):
                if got != pack(shape, want):
                    raise AssertionError(
                        f"{name} {index}:\n{describe(unpack(shape, got), full(shape, want))}"
                    )
            assert len(self.got[name]) == len(expected[name]), name
        assert self.evicted == evicted


def full(shape, values):
    """Nested dicts with all fields."""
    return unpack(shape, pack(shape, values))


def describe(got, want, path=""):
    """The fields that differ."""
    lines = []
    for name, value in got.items():
        if isinstance(value, dict):
            lines.append(describe(value, want[name], f"{path}{name}."))
        elif value != want[name]:
            lines.append(f"  {path}{name}: {value:#x}, expected {want[name]:#x}")
    return "\n".join(line for line in lines if line)


__all__ = ["Bench", "Item", "ModelWalker"]
