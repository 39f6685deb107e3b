# SPDX-License-Identifier: Apache-2.0
"""The flow table, written by the driver's placement, against a dictionary."""

import itertools
import random

import pytest

from sealane.driver.device.flowtable import FlowTable as Placement
from sealane.driver.device.flowtable import FlowTableFull, FlowWrite
from sealane.hdl.abi.commands import COMMAND, FLOW_KEY, Op
from sealane.hdl.abi.config import Config
from sealane.hdl.common.layouts import Layouts
from sealane.hdl.ingress.flow_table import FlowTable
from sealane.sim.unit import build


@pytest.fixture(scope="module", params=[4, 64, 1024])
def bench(request):
    config = Config(flows=request.param)
    return Bench(build(FlowTable, config, name="flow_table"), config)


def flow_write(write):
    """The command; the key goes to `flow_key`."""
    values = write._asdict()
    del values["key"]
    return COMMAND.pack({"op": Op.FLOW_WRITE, **values})


class Bench:
    """Offers packets and commands, takes work, and checks that what waits does not change."""

    def __init__(self, unit, config):
        self.unit, self.config = unit, config
        self.layouts = Layouts(config)
        self.work = []
        self.flow_writes = 0
        self.shown = None

    def desc(self, key, is_tcp=1, **more):
        values = {"is_tcp": is_tcp, "key": FLOW_KEY.unpack(key), **more}
        return self.layouts.packet_desc.const(values).as_value().value

    def clock(self, ready, port=None):
        """One clock; whether the item offered at `port` was taken in it."""
        unit = self.unit
        unit.set("work__ready", ready)
        if unit.get("work__valid"):
            payload = unit.get("work__payload")
            assert self.shown in (None, payload), "payload changed while it waited"
            self.shown = None if ready else payload
            if ready:
                self.work.append(unit.fields("work__payload"))
        else:
            assert self.shown is None, "valid fell while it waited"
        self.flow_writes += unit.get("flow_write_done")
        taken = port is not None and unit.get(f"{port}__ready")
        unit.tick()
        return taken

    def offer(self, port, value, rng, hold=0.0):
        self.unit.set(f"{port}__valid", 1)
        self.unit.set(f"{port}__payload", value)
        while not self.clock(rng.random() >= hold, port):
            pass
        self.unit.set(f"{port}__valid", 0)
        self.unit.set(f"{port}__payload", 0)

    def write(self, write, rng, hold=0.0):
        """Held until it is done, as the registers do."""
        done = self.flow_writes
        self.unit.set("flow_key", write.key)
        self.offer("commands", flow_write(write), rng, hold)
        while self.flow_writes == done:
            self.clock(rng.random() >= hold)
        self.unit.set("flow_key", rng.getrandbits(FLOW_KEY.width))

    def drain(self):
        for _ in range(8):
            self.clock(True)
        work, self.work = self.work, []
        return work

    def empty(self, placement, keys):
        for key in keys:
            for write in placement.delete(key):
                self.write(write, random.Random(0))


@pytest.mark.parametrize("hold", [0.0, 0.5])
def test_lookups_and_commands(bench, hold):
    rng = random.Random(1)
    placement = Placement(bench.config.flows)
    keys = [rng.getrandbits(FLOW_KEY.width) for _ in range(min(bench.config.flows, 200))]
    # Neighbours: one bit of a key that is there.
    near = [key ^ 1 << rng.randrange(FLOW_KEY.width) for key in keys]
    present, free, expected = {}, list(range(bench.config.flows)), []
    for step in range(1500):
        kind = rng.random()
        if kind < 0.1 and free:
            key = rng.choice(keys)
            if key in present:
                continue
            try:
                writes = placement.insert(key, free[-1])
            except FlowTableFull:
                continue
            present[key] = free.pop()
            for write in writes:
                bench.write(write, rng, hold)
        elif kind < 0.13 and present:
            key = rng.choice(list(present))
            free.append(present.pop(key))
            for write in placement.delete(key):
                bench.write(write, rng, hold)
        elif kind < 0.2:
            values = {"op": rng.choice((Op.CONTEXT_ADD, Op.GO_ON)), "context": step, "seq": step}
            bench.offer("commands", COMMAND.pack(values), rng, hold)
            expected.append((1, values["op"], step, None))
        else:
            key = rng.choice(rng.choice((keys, keys, near)))
            is_tcp = rng.random() < 0.9
            bench.offer("descs", bench.desc(key, is_tcp, seq=step), rng, hold)
            hit = present.get(key) if is_tcp else None
            expected.append((0, key, step, hit))
    got = bench.drain()
    assert len(got) == len(expected)
    for work, (is_command, what, step, hit) in zip(got, expected, strict=True):
        assert work["is_command"] == is_command
        if is_command:
            command = work["command"]
            assert (command["op"], command["context"], command["seq"]) == (what, step, step)
        else:
            assert FLOW_KEY.pack(work["packet"]["key"]) == what
            assert work["packet"]["seq"] == step
            assert work["hit"] == (hit is not None)
            if hit is not None:
                assert work["context"] == hit
    bench.empty(placement, list(present))


def test_every_key_bit_counts(bench):
    """The key lies in every place, so that whatever a neighbour hashes to, only bits differ."""
    rng = random.Random(2)
    key = rng.getrandbits(FLOW_KEY.width)
    buckets = (
        bench.config.flows // 2
    )  # of each table: two slots a row, twice as many places as flows
    everywhere = [
        FlowWrite(*place, valid=True, key=key, context=3)
        for place in itertools.product(range(2), range(buckets), range(2))
    ]
    for write in everywhere:
        bench.write(write, rng)
    for bit in range(FLOW_KEY.width):
        bench.offer("descs", bench.desc(key ^ 1 << bit), rng)
        bench.offer("descs", bench.desc(key), rng)
    got = bench.drain()
    assert [(work["hit"], work["context"]) for work in got] == [(0, 0), (1, 3)] * FLOW_KEY.width
    for write in everywhere:
        bench.write(write._replace(valid=False, key=0, context=0), rng)


def test_write_lies_between_packets(bench):
    """Packets without a gap around a FLOW_WRITE: those before it miss, those behind it hit."""
    rng = random.Random(3)
    placement = Placement(bench.config.flows)
    key = rng.getrandbits(FLOW_KEY.width)
    (write,) = placement.insert(key, 1)
    for _ in range(5):
        bench.offer("descs", bench.desc(key), rng)
    bench.unit.set("flow_key", key)
    bench.offer("commands", flow_write(write), rng)
    for _ in range(5):
        bench.offer("descs", bench.desc(key), rng)
    assert [work["hit"] for work in bench.drain()] == [0] * 5 + [1] * 5
    bench.empty(placement, [key])


def test_full_rate_and_priority(bench):
    rng = random.Random(4)
    unit = bench.unit
    unit.set("descs__valid", 1)
    unit.set("descs__payload", bench.desc(rng.getrandbits(FLOW_KEY.width)))
    for _ in range(20):
        assert bench.clock(True, "descs")
    assert len(bench.work) == 16
    unit.set("commands__valid", 1)
    unit.set("commands__payload", COMMAND.pack({"op": Op.GO_ON}))
    assert not bench.clock(True, "descs")
    unit.set("commands__valid", 0)
    unit.set("descs__valid", 0)
    assert [work["is_command"] for work in bench.drain()] == [0] * 20 + [1]
