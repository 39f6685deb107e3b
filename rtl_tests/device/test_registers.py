# SPDX-License-Identifier: Apache-2.0
"""The register block through its AXI4-Lite port."""

import random

import pytest

from sealane.hdl.abi import registers as abi
from sealane.hdl.abi.commands import COMMAND, STAGE_WORDS, Op
from sealane.hdl.abi.config import Config
from sealane.hdl.abi.events import EVENT, EVENT_WORDS
from sealane.hdl.abi.tx import TX_COMMAND, TX_COUNTERS, TxCommand
from sealane.hdl.common.counts import TransmitCounts
from sealane.hdl.registers import OKAY, SLVERR, Registers
from sealane.sim.unit import build

CONFIG = Config(flows=16, events=8)
TRANSMIT = Config(flows=16, events=8, tx_flows=8)
BOTH = pytest.mark.parametrize("config", [CONFIG, TRANSMIT], ids=["receive", "transmit"])


class Bus:
    """An AXI4-Lite manager; `rng` delays each channel."""

    def __init__(self, seed=0, config=CONFIG):
        self.unit = build(Registers, config, name="registers")
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
            result = {port: unit.get(f"s_axil__{port}") for port in ("bresp", "rresp", "rdata")}
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


@BOTH
def test_identity(config):
    bus = Bus(config=config)
    assert bus.read(abi.OFFSET["IDENT"]) == abi.IDENT_VALUE
    assert bus.read(abi.OFFSET["FLOWS"]) == CONFIG.flows
    assert bus.read(abi.OFFSET["RECORD_SLOTS"]) == CONFIG.record_slots
    assert bus.read(abi.OFFSET["RUNS"]) == CONFIG.runs
    assert bus.read(abi.OFFSET["TX_FLOWS"]) == config.tx_flows


@BOTH
def test_every_address_answers_and_only_registers_are_okay(config):
    bus = Bus(config=config)
    registers = abi.REGISTERS + (abi.TX_REGISTERS if config.tx_flows else ())
    spans = {r.name: range(r.offset, r.offset + 4 * r.count, 4) for r in registers}
    readable = {a for r in registers if r.access != "wo" for a in spans[r.name]}
    writable = {a for r in registers if r.access != "ro" for a in spans[r.name]}
    for address in range(0, 1 << abi.ADDRESS_BITS, 4):
        value = bus.read(address)
        assert bus.response == (OKAY if address in readable else SLVERR), hex(address)
        assert address in readable or value == 0, hex(address)
        # The command is written as no command, which is refused.
        expected = address in writable and address != abi.OFFSET["COMMAND"]
        assert bus.write(address, 0) == (OKAY if expected else SLVERR), hex(address)
    assert bus.write(abi.OFFSET["CMD_SEQ"], 5, strobe=7) == SLVERR
    assert bus.read(abi.OFFSET["CMD_SEQ"]) == 0


def give(bus, fields, flow_key):
    """Write the fields of a command, of either direction; every register reads back."""
    number, nonce = fields["number"], fields.get("nonce", 0)
    writes = {
        "CMD_CONTEXT": fields["context"] | fields["generation"] << 16 | fields["epoch"] << 24,
        "CMD_FLAGS": (
            fields["version"]
            | fields["key256"] << 1
            | fields.get("refused", 0) << 2
            | fields["valid"] << 3
            | fields["table"] << 4
            | fields["slot"] << 5
            | fields.get("park", 0) << 8
            | fields["bucket"] << 16
        ),
        "CMD_SEQ": fields["seq"],
        "CMD_NUMBER_LO": number & 0xFFFFFFFF,
        "CMD_NUMBER_HI": number >> 32,
        "CMD_OPTIONS": fields.get("options", 0),
    }
    if "nonce" in fields:
        writes |= {"CMD_NONCE_LO": nonce & 0xFFFFFFFF, "CMD_NONCE_HI": nonce >> 32}
    for i in range(10):
        writes[i] = flow_key >> 32 * i & 0xFFFFFFFF
    for name, value in writes.items():
        address = abi.OFFSET["FLOW_KEY"] + 4 * name if isinstance(name, int) else abi.OFFSET[name]
        assert bus.write(address, value) == OKAY
        assert bus.read(address) == value


@BOTH
@pytest.mark.parametrize("seed", range(5))
def test_commands_carry_their_fields(seed, config):
    bus = Bus(seed, config)
    rng = random.Random(seed)
    tx = config.tx_flows > 0
    for op in [*Op, *(TxCommand if tx else ())]:
        if op is Op.NONE:
            continue
        transmit = isinstance(op, TxCommand)
        layout, prefix = (TX_COMMAND, "tx_") if transmit else (COMMAND, "")
        flows = config.tx_flows if transmit else config.flows
        fields = {f.name: rng.getrandbits(f.width) for f in layout}
        fields.update(op=int(op), context=rng.randrange(flows), bucket=rng.randrange(flows // 2))
        key = rng.getrandbits(289)
        give(bus, fields, key)
        assert bus.write(abi.OFFSET["COMMAND"], op) == OKAY
        assert bus.read(abi.OFFSET["STATUS"]) == 1
        assert bus.unit.get(f"{prefix}commands__valid")
        if tx:
            assert not bus.unit.get("commands__valid" if transmit else "tx_commands__valid")
        assert layout.unpack(bus.unit.get(f"{prefix}commands__payload")) == fields
        assert bus.unit.get("flow_key") == key
        # Nothing of it changes before it is done.
        assert bus.write(abi.OFFSET["CMD_SEQ"], 1) == SLVERR
        assert bus.write(abi.OFFSET["CMD_NONCE_HI"], 1) == SLVERR
        assert bus.write(abi.OFFSET["COMMAND"], 1) == SLVERR
        assert bus.write(abi.OFFSET["STAGE"], 1) == SLVERR
        bus.pulse(f"{prefix}commands__ready")
        assert not bus.unit.get(f"{prefix}commands__valid")
        assert bus.read(abi.OFFSET["STATUS"]) == 1
        ends = op in (Op.FLOW_WRITE, TxCommand.TX_FLOW_WRITE)
        bus.pulse(prefix + ("flow_write_done" if ends else "token_done"))
        assert bus.read(abi.OFFSET["STATUS"]) == 0
        assert layout.unpack(bus.unit.get(f"{prefix}commands__payload")) == fields


RECEIVE_REFUSES = [
    (CONFIG.flows, 0, Op.CONTEXT_ADD),
    (1 << 15, 0, Op.GO_ON),
    (0, 8, Op.FLOW_WRITE),
    (0, 0, 14),
    (0, 0, 15),
    (0, 0, Op.NONE),
]
TRANSMIT_REFUSES = [
    (TRANSMIT.tx_flows, 0, TxCommand.TX_ADD),
    (1 << 15, 0, TxCommand.TX_RELEASE),
    (0, 4, TxCommand.TX_FLOW_WRITE),
    (TRANSMIT.tx_flows, 0, TxCommand.TX_FLOW_WRITE),
]


@pytest.mark.parametrize(
    ("config", "refused"),
    [
        (CONFIG, RECEIVE_REFUSES + [(0, 0, op) for op in TxCommand]),
        (TRANSMIT, RECEIVE_REFUSES + TRANSMIT_REFUSES),
    ],
    ids=["receive", "transmit"],
)
def test_commands_for_what_is_not_there_are_refused(config, refused):
    bus = Bus(config=config)
    for context, bucket, op in refused:
        bus.write(abi.OFFSET["CMD_CONTEXT"], context)
        bus.write(abi.OFFSET["CMD_FLAGS"], bucket << 16)
        assert bus.write(abi.OFFSET["COMMAND"], op) == SLVERR, (context, bucket, op)
        for prefix in ("", "tx_") if config.tx_flows else ("",):
            assert not bus.unit.get(f"{prefix}commands__valid")
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


@BOTH
def test_counters_count(config):
    bus = Bus(config=config)
    names = [name for name, _ in abi.COUNTERS + (TX_COUNTERS if config.tx_flows else ())]
    expected = dict.fromkeys(names, 0)
    rng = random.Random(3)
    pulses = {"frames": "frames", "evicted": "evicted", "stall": "stall_cycles"}
    if config.tx_flows:
        pulses["tx_stall"] = "tx_stall_cycles"
    fields = {
        f: 10 if f == "records_verified" else 1
        for f in (
            "marked",
            "records_verified",
            "tag_mismatch",
            "resync_requests",
            "resumed",
            "parked",
        )
    }
    for _ in range(200):
        steps = {name: rng.getrandbits(width) for name, width in fields.items()}
        bus.unit.set_fields("counts", **steps)
        if config.tx_flows:
            widths = {name: 10 if name == "tags" else 1 for name in TransmitCounts.members}
            tx_steps = {name: rng.getrandbits(width) for name, width in widths.items()}
            bus.unit.set_fields("tx_counts", **tx_steps)
            steps |= {f"tx_{name}": step for name, step in tx_steps.items()}
        for port, name in pulses.items():
            steps[name] = rng.getrandbits(1)
            bus.unit.set(port, steps[name])
        bus.unit.tick()
        for name, step in steps.items():
            expected[name] += step
    for port in ("counts", *pulses, *(["tx_counts"] if config.tx_flows else [])):
        bus.unit.set(port, 0)
    for name, value in expected.items():
        assert bus.read(abi.OFFSET["COUNT_" + name.upper()]) == value, name
