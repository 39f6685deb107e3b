# SPDX-License-Identifier: Apache-2.0
"""The register block through its AXI4-Lite port."""

import random

import pytest
from sealane.hdl.abi import registers as abi
from sealane.hdl.abi.commands import COMMAND, STAGE_WORDS, Op
from sealane.hdl.abi.config import Config
from sealane.hdl.abi.events import EVENT, EVENT_WORDS
from sealane.hdl.registers import OKAY, SLVERR, Registers
from sealane.sim.unit import build

CONFIG = Config(flows=16, events=8)


class Bus:
    """An AXI4-Lite manager; `rng` delays each channel."""

    def __init__(self, seed=0):
        self.unit = build(Registers(CONFIG), "registers")
        self.rng = random.Random(seed)
        self.unit.reset()

    def _channels(self, starts, valids, answer):
        """Holds each valid of `valids` from its start until its ready; returns at the answer."""
        unit = self.unit
        open_, wait = set(valids), self.rng.randrange(4)
        for clock in range(50):
            for name in open_:
                unit.set(f"s_axil__{name}valid", clock >= starts[name])
            unit.set(f"s_axil__{answer}ready", clock >= wait)
            gone = {n for n in open_ if clock >= starts[n] and unit.get(f"s_axil__{n}ready")}
            answered = unit.get(f"s_axil__{answer}valid") and clock >= wait
            result = {
                port: unit.get(f"s_axil__{port}") for port in ("bresp", "rresp", "rdata")
            }
            unit.tick()
            for name in gone:
                open_.discard(name)
                unit.set(f"s_axil__{name}valid", 0)
            if answered:
                unit.set(f"s_axil__{answer}ready", 0)
                assert not open_
                return result
        raise AssertionError("no answer")

    def write(self, address, value, strobe=15):
        self.unit.set("s_axil__awaddr", address)
        self.unit.set("s_axil__wdata", value)
        self.unit.set("s_axil__wstrb", strobe)
        starts = {"aw": self.rng.randrange(4), "w": self.rng.randrange(4)}
        return self._channels(starts, ("aw", "w"), "b")["bresp"]

    def read(self, address):
        self.unit.set("s_axil__araddr", address)
        result = self._channels({"ar": self.rng.randrange(4)}, ("ar",), "r")
        self.response = result["rresp"]
        return result["rdata"]

    def pulse(self, port, value=1):
        self.unit.set(port, value)
        self.unit.tick()
        self.unit.set(port, 0)


def test_identity():
    bus = Bus()
    assert bus.read(abi.OFFSET["IDENT"]) == abi.IDENT_VALUE
    assert bus.read(abi.OFFSET["FLOWS"]) == CONFIG.flows
    assert bus.read(abi.OFFSET["RECORD_SLOTS"]) == CONFIG.record_slots
    assert bus.read(abi.OFFSET["RUNS"]) == CONFIG.runs
    assert bus.read(abi.OFFSET["TX_FLOWS"]) == CONFIG.tx_flows


def test_every_address_answers_and_only_registers_are_okay():
    bus = Bus()
    spans = {r.name: range(r.offset, r.offset + 4 * r.count, 4) for r in abi.REGISTERS}
    readable = {a for r in abi.REGISTERS if r.access != "wo" for a in spans[r.name]}
    writable = {a for r in abi.REGISTERS if r.access != "ro" for a in spans[r.name]}
    for address in range(0, 1 << abi.ADDRESS_BITS, 4):
        bus.read(address)
        assert bus.response == (OKAY if address in readable else SLVERR), hex(address)
        # The command is written as no command, which is refused.
        expected = address in writable and address != abi.OFFSET["COMMAND"]
        assert bus.write(address, 0) == (OKAY if expected else SLVERR), hex(address)
    assert bus.write(abi.OFFSET["CMD_SEQ"], 5, strobe=7) == SLVERR
    assert bus.read(abi.OFFSET["CMD_SEQ"]) == 0


@pytest.mark.parametrize("seed", range(5))
def test_commands_carry_their_fields(seed):
    bus = Bus(seed)
    rng = random.Random(seed)
    for op in Op:
        if op is Op.NONE:
            continue
        fields = {f.name: rng.getrandbits(f.width) for f in COMMAND}
        fields.update(op=int(op), context=rng.randrange(CONFIG.flows), row=rng.randrange(8))
        number = fields["number"]
        writes = {
            "CMD_CONTEXT": fields["context"] | fields["generation"] << 16 | fields["epoch"] << 24,
            "CMD_FLAGS": (
                fields["version"] | fields["key256"] << 1 | fields["refused"] << 2
                | fields["valid"] << 3 | fields["table"] << 4 | fields["slot"] << 5
                | fields["park"] << 8 | fields["row"] << 16
            ),
            "CMD_SEQ": fields["seq"],
            "CMD_NUMBER_LO": number & 0xFFFFFFFF,
            "CMD_NUMBER_HI": number >> 32,
            "CMD_OPTIONS": fields["options"],
        }
        key = rng.getrandbits(289)
        for i in range(10):
            writes[i] = key >> 32 * i & 0xFFFFFFFF
        for name, value in writes.items():
            address = abi.OFFSET["FLOW_KEY"] + 4 * name if isinstance(name, int) else (
                abi.OFFSET[name]
            )
            assert bus.write(address, value) == OKAY
            assert bus.read(address) == value
        assert bus.write(abi.OFFSET["COMMAND"], op) == OKAY
        assert bus.read(abi.OFFSET["STATUS"]) == 1
        assert bus.unit.get("commands__valid")
        assert COMMAND.unpack(bus.unit.get("commands__payload")) == fields
        assert bus.unit.get("flow_key") == key
        # Nothing of it changes before it is done.
        assert bus.write(abi.OFFSET["CMD_SEQ"], 1) == SLVERR
        assert bus.write(abi.OFFSET["COMMAND"], 1) == SLVERR
        assert bus.write(abi.OFFSET["STAGE"], 1) == SLVERR
        bus.pulse("commands__ready")
        assert not bus.unit.get("commands__valid")
        assert bus.read(abi.OFFSET["STATUS"]) == 1
        bus.pulse("flow_write_done" if op is Op.FLOW_WRITE else "token_done")
        assert bus.read(abi.OFFSET["STATUS"]) == 0
        assert COMMAND.unpack(bus.unit.get("commands__payload")) == fields


def test_commands_for_what_is_not_there_are_refused():
    bus = Bus()
    for context, row, op in (
        (CONFIG.flows, 0, Op.CONTEXT_ADD), (1 << 15, 0, Op.GO_ON), (0, 8, Op.FLOW_WRITE),
        (0, 0, max(Op) + 1), (0, 0, 15), (0, 0, Op.NONE),
    ):
        bus.write(abi.OFFSET["CMD_CONTEXT"], context)
        bus.write(abi.OFFSET["CMD_FLAGS"], row << 16)
        assert bus.write(abi.OFFSET["COMMAND"], op) == SLVERR
        assert not bus.unit.get("commands__valid")
        assert bus.read(abi.OFFSET["STATUS"]) == 0


def test_staged_keys_are_read_and_cleared():
    bus = Bus()
    rng = random.Random(1)
    words = [rng.getrandbits(32) for _ in range(STAGE_WORDS)]
    for i, word in enumerate(words):
        assert bus.write(abi.OFFSET["STAGE"] + 4 * i, word) == OKAY
        assert bus.read(abi.OFFSET["STAGE"] + 4 * i) == 0  # keys cannot be read back
    for clear in (0, 1, 0):
        got = []
        bus.unit.set("stage_clear", clear)
        for i in range(STAGE_WORDS):
            bus.unit.set("stage_addr", i)
            bus.unit.tick()
            got.append(bus.unit.get("stage_data"))
        assert got == words
        if clear:
            words = [0] * STAGE_WORDS
    bus.unit.set("stage_clear", 0)


def test_events_queue_up_and_the_overflow_is_counted():
    bus = Bus()
    rng = random.Random(2)
    assert bus.read(abi.OFFSET["EVENT_STATUS"]) == 0 and not bus.unit.get("irq")
    events = [rng.getrandbits(EVENT.width) for _ in range(20)]
    bus.unit.set("events__valid", 1)
    for event in events:
        bus.unit.set("events__payload", event)
        assert bus.unit.get("events__ready")
        bus.unit.tick()
    bus.unit.set("events__valid", 0)
    waiting = bus.read(abi.OFFSET["EVENT_STATUS"])
    assert waiting in (CONFIG.events, CONFIG.events + 1)
    assert bus.read(abi.OFFSET["COUNT_EVENTS_LOST"]) == 20 - waiting
    for event in events[:waiting]:
        assert bus.unit.get("irq")
        words = [bus.read(abi.OFFSET["EVENT"] + 4 * i) for i in range(EVENT_WORDS)]
        assert sum(word << 32 * i for i, word in enumerate(words)) == event
        assert bus.write(abi.OFFSET["EVENT_POP"], 0) == OKAY
    assert not bus.unit.get("irq") and bus.read(abi.OFFSET["EVENT_STATUS"]) == 0
    assert bus.read(abi.OFFSET["EVENT"]) == 0
    bus.write(abi.OFFSET["EVENT_POP"], 0)
    assert bus.read(abi.OFFSET["EVENT_STATUS"]) == 0


def test_counters_count():
    bus = Bus()
    expected = dict.fromkeys((name for name, _ in abi.COUNTERS), 0)
    rng = random.Random(3)
    fields = {f: 10 if f == "records_verified" else 1 for f in
              ("marked", "records_verified", "tag_mismatch", "resync_requests", "resumed",
               "parked")}
    for _ in range(200):
        steps = {name: rng.getrandbits(width) for name, width in fields.items()}
        bus.unit.set_fields("counts", **steps)
        for port, name in (("frames", "frames"), ("evicted", "evicted"),
                           ("stall", "stall_cycles")):
            steps[name] = rng.getrandbits(1)
            bus.unit.set(port, steps[name])
        bus.unit.tick()
        for name, step in steps.items():
            expected[name] += step
    bus.unit.set("counts", 0)
    for port in ("frames", "evicted", "stall"):
        bus.unit.set(port, 0)
    for name, value in expected.items():
        assert bus.read(abi.OFFSET["COUNT_" + name.upper()]) == value, name
