# SPDX-License-Identifier: Apache-2.0
"""The registers of `abi.registers` behind an AXI4-Lite port (ARM IHI 0022, chapter B1)."""

from amaranth.hdl import Array, Cat, Module, Signal, Value
from amaranth.lib import data, stream
from amaranth.lib.memory import Memory, WritePort
from amaranth.lib.wiring import Component, In, Out, Signature

from .abi import registers as abi
from .abi.commands import FLOW_KEY, STAGE_WORDS, Op
from .abi.config import Config
from .abi.events import EVENT, EVENT_WORDS
from .abi.flowhash import buckets
from .abi.tx import TX_COUNTERS, TxCommand
from .common.counts import ReceiveCounts, TransmitCounts
from .common.fifo import StreamFIFO
from .common.layouts import Command, Event, FlowKey
from .common.tx_layouts import TxCommandFields

OKAY = 0
SLVERR = 2

AxiLite = Signature(
    {
        "awvalid": Out(1),
        "awready": In(1),
        "awaddr": Out(abi.ADDRESS_BITS),
        "wvalid": Out(1),
        "wready": In(1),
        "wdata": Out(32),
        "wstrb": Out(4),
        "bvalid": In(1),
        "bready": Out(1),
        "bresp": In(2),
        "arvalid": Out(1),
        "arready": In(1),
        "araddr": Out(abi.ADDRESS_BITS),
        "rvalid": In(1),
        "rready": Out(1),
        "rdata": In(32),
        "rresp": In(2),
    }
)
"""AXI4-Lite from the manager's side, 32 bits of data; without the PROT signals, which nothing
here would look at."""

_WORD = {r.name: r.offset // 4 for r in abi.REGISTERS + abi.TX_REGISTERS}
_NONCE = ("CMD_NONCE_LO", "CMD_NONCE_HI")
_COUNT = {r.name: r.count for r in abi.REGISTERS}


def _is_transmit(op: Value) -> Value:
    """Whether the four bits of an operation are a `TxCommand`'s, or of none."""
    return op >= int(min(TxCommand))


class _Write:
    """A write access: address and data are taken together, done a clock later, then answered."""

    def __init__(self) -> None:
        self.write = Signal()  # it is done
        self.write_word = Signal(abi.ADDRESS_BITS - 2)
        self.write_data = Signal(32)
        self.write_whole = Signal()
        self.accepted = Signal()  # there is such a register, and it may be written now


class Registers(Component):
    """Commands in; status, events and counters out.

    One access a direction at a time, three clocks each. SLVERR and no effect: an address without
    a register, the wrong direction, a write of less than 32 bits, anything of a command written
    while one is under way, and a command that does not exist or names a context or row that this
    device does not have.

    commands: the doorbell, FLOW_WRITE included; the payload holds until the command is done.
    flow_key: FLOW_WRITE's key; stable while a command is under way.
    token_done, flow_write_done: one pulse for each command taken; ends STATUS's busy bit.
    stage_addr -> stage_data: the key staging memory, address to data in one clock; a word that
        is addressed in a clock with stage_clear is 0 afterwards.
    events: always ready; an event that finds the queue full is counted and lost.
    frames, evicted, stall: counted clocks. counts: see `ReceiveCounts`.
    irq: level, an event is waiting.

    Only with `Config.tx_flows`: tx_commands, tx_token_done, tx_flow_write_done, tx_stall and
    tx_counts (see `common.counts`), the same for transmit. One command is under way at a time,
    of either direction, so FLOW_KEY and the staging memory are shared. `TxCommand`s need a transmit
    context or row; without `Config.tx_flows` they do not exist.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        transmit = {
            "tx_commands": Out(stream.Signature(TxCommandFields)),
            "tx_token_done": In(1),
            "tx_flow_write_done": In(1),
            "tx_stall": In(1),
            "tx_counts": In(TransmitCounts),
        }
        super().__init__(
            {
                "s_axil": In(AxiLite),
                "irq": Out(1),
                "commands": Out(stream.Signature(Command)),
                "flow_key": Out(FlowKey),
                "token_done": In(1),
                "flow_write_done": In(1),
                "stage_addr": In(6),
                "stage_data": Out(32),
                "stage_clear": In(1),
                "events": In(stream.Signature(Event)),
                "frames": In(1),
                "evicted": In(1),
                "stall": In(1),
                "counts": In(ReceiveCounts),
                **(transmit if config.tx_flows else {}),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        access = _Write()
        self._take_writes(m, access)

        busy = Signal()  # a command is under way
        lo = Signal(32)
        hi = Signal(32)
        options = Signal(32)
        seq = Signal(32)
        flags = Signal(32)
        context = Signal(32)
        fields = {
            "CMD_CONTEXT": context,
            "CMD_FLAGS": flags,
            "CMD_SEQ": seq,
            "CMD_NUMBER_LO": lo,
            "CMD_NUMBER_HI": hi,
            "CMD_OPTIONS": options,
        }
        if self._config.tx_flows:
            fields |= {name: Signal(32, name=name.lower()) for name in _NONCE}
        key = Array(Signal(32, name=f"key{i}") for i in range(_COUNT["FLOW_KEY"]))
        m.d.comb += self.flow_key.eq(Cat(*key)[: FLOW_KEY.width])

        stage_write = self._stage(m)
        start = Signal()  # a command starts
        pop = Signal()  # an event is taken
        self._write(m, access, busy, fields, key, stage_write, start, pop)
        self._doorbell(m, access, busy, fields, start)
        queue, waiting = self._events(m, pop)
        counters = self._count(m, queue)
        self._read(m, self._table(busy, waiting, fields | counters, key, queue))
        return m

    def _take_writes(self, m: Module, access: _Write) -> None:
        """Writes at the bus, and their answers."""
        bus = self.s_axil
        take = bus.awvalid & bus.wvalid & ~bus.bvalid & ~access.write
        m.d.comb += [bus.awready.eq(take), bus.wready.eq(take)]
        m.d.sync += [
            access.write.eq(take),
            access.write_word.eq(bus.awaddr[2:]),
            access.write_data.eq(bus.wdata),
            access.write_whole.eq(bus.wstrb.all() & (bus.awaddr[:2] == 0)),
        ]
        with m.If(access.write):
            m.d.sync += bus.bvalid.eq(1)
            with m.If(access.accepted):
                m.d.sync += bus.bresp.eq(OKAY)
            with m.Else():
                m.d.sync += bus.bresp.eq(SLVERR)
        with m.Elif(bus.bready):
            m.d.sync += bus.bvalid.eq(0)

    def _stage(self, m: Module) -> WritePort:
        """The staging memory; gives its write port, which clears unless told otherwise."""
        m.submodules.stage = stage = Memory(shape=32, depth=64, init=[])
        stage_read = stage.read_port()
        stage_write = stage.write_port()
        m.d.comb += [
            stage_read.addr.eq(self.stage_addr),
            self.stage_data.eq(stage_read.data),
            stage_write.addr.eq(self.stage_addr),
            stage_write.en.eq(self.stage_clear),
        ]
        return stage_write

    def _write(
        self,
        m: Module,
        access: _Write,
        busy: Signal,
        fields: dict[str, Signal],
        key: Array,
        stage_write: WritePort,
        start: Signal,
        pop: Signal,
    ) -> None:
        """What a write does; fields of a command and the doorbell only while none is under way."""
        with m.If(access.write & access.write_whole):
            with m.If(~busy):
                for name, target in fields.items():
                    with m.If(access.write_word == _WORD[name]):
                        m.d.comb += access.accepted.eq(1)
                        m.d.sync += target.eq(access.write_data)
                for i, target in enumerate(key):
                    with m.If(access.write_word == _WORD["FLOW_KEY"] + i):
                        m.d.comb += access.accepted.eq(1)
                        m.d.sync += target.eq(access.write_data)
                stage_word = (access.write_word - _WORD["STAGE"])[: len(access.write_word)]
                with m.If((access.write_word >= _WORD["STAGE"]) & (stage_word < STAGE_WORDS)):
                    m.d.comb += [
                        access.accepted.eq(1),
                        stage_write.addr.eq(stage_word),
                        stage_write.data.eq(access.write_data),
                        stage_write.en.eq(1),
                    ]
                with m.If(access.write_word == _WORD["COMMAND"]):
                    m.d.comb += access.accepted.eq(start)
            with m.If(access.write_word == _WORD["EVENT_POP"]):
                m.d.comb += [access.accepted.eq(1), pop.eq(1)]

    def _doorbell(
        self, m: Module, access: _Write, busy: Signal, fields: dict[str, Signal], start: Signal
    ) -> None:
        """The command that a write to COMMAND starts. Its fields cannot change while it is under
        way."""
        command = self.commands.payload
        context, flags = fields["CMD_CONTEXT"], fields["CMD_FLAGS"]
        op = Signal(4)
        m.d.comb += [
            command.op.eq(op),
            Cat(command.context, command.generation, command.epoch).eq(context),
            Cat(command.version, command.key256, command.refused).eq(flags),
            Cat(command.valid, command.table, command.slot).eq(flags[3:]),
            command.options.eq(fields["CMD_OPTIONS"]),
            command.park.eq(flags[8:]),
            command.bucket.eq(flags[16:]),
            command.seq.eq(fields["CMD_SEQ"]),
            command.number.eq(Cat(fields["CMD_NUMBER_LO"], fields["CMD_NUMBER_HI"])),
        ]
        new_op = access.write_data[:4]
        has_context = command.context < self._config.flows
        has_bucket = command.bucket < buckets(self._config.flows)
        exists = (
            (new_op != Op.NONE)
            & (new_op <= max(Op))
            & has_context
            & (has_bucket | (new_op != Op.FLOW_WRITE))
        )
        done = self.token_done | self.flow_write_done
        for_receive = 1
        if self._config.tx_flows:
            exists |= self._transmit_command(m, command, fields, new_op)
            done |= self.tx_token_done | self.tx_flow_write_done
            for_receive = ~_is_transmit(new_op)
        with m.If(
            access.write & access.write_whole & ~busy & (access.write_word == _WORD["COMMAND"])
        ):
            m.d.comb += start.eq(exists)
        with m.If(start):
            m.d.sync += [busy.eq(1), op.eq(new_op), self.commands.valid.eq(for_receive)]
        with m.Else():
            with m.If(self.commands.ready):
                m.d.sync += self.commands.valid.eq(0)
            with m.If(done):
                m.d.sync += busy.eq(0)
        if self._config.tx_flows:
            with m.If(start):
                m.d.sync += self.tx_commands.valid.eq(_is_transmit(new_op))
            with m.Elif(self.tx_commands.ready):
                m.d.sync += self.tx_commands.valid.eq(0)

    def _events(self, m: Module, pop: Signal) -> tuple[StreamFIFO, Signal]:
        """The queue of events, and how many wait."""
        m.submodules.queue = queue = StreamFIFO(Event, self._config.events)
        waiting = Signal(range(self._config.events + 2))
        enter = self.events.valid & queue.i.ready
        leave = queue.o.valid & pop
        m.d.comb += [
            queue.i.payload.eq(self.events.payload),
            queue.i.valid.eq(self.events.valid),
            self.events.ready.eq(1),
            queue.o.ready.eq(pop),
            self.irq.eq(queue.o.valid),
        ]
        m.d.sync += waiting.eq(waiting + enter - leave)
        return queue, waiting

    def _count(self, m: Module, queue: StreamFIFO) -> dict[str, Signal]:
        """Counters, by register."""
        steps = {
            "frames": self.frames,
            "evicted": self.evicted,
            "stall_cycles": self.stall,
            "events_lost": self.events.valid & ~queue.i.ready,
        }
        names = [name for name, _ in abi.COUNTERS]
        counts = {name: self.counts[name] for name in ReceiveCounts.members}
        if self._config.tx_flows:
            names += [name for name, _ in TX_COUNTERS]
            steps["tx_stall_cycles"] = self.tx_stall
            counts |= {f"tx_{name}": self.tx_counts[name] for name in TransmitCounts.members}
        counters = {}
        for name in names:
            counter = Signal(32, name=f"count_{name}")
            m.d.sync += counter.eq(counter + (steps | counts)[name])
            counters[f"COUNT_{name.upper()}"] = counter
        return counters

    def _table(
        self,
        busy: Signal,
        waiting: Signal,
        registers: dict[str, Signal],
        key: Array,
        queue: StreamFIFO,
    ) -> dict[int, Value]:
        """What is read, by word."""
        constants = {
            "IDENT": abi.IDENT_VALUE,
            "FLOWS": self._config.flows,
            "RECORD_SLOTS": self._config.record_slots,
            "RUNS": self._config.runs,
            "TX_FLOWS": self._config.tx_flows,
        }
        table = {_WORD[name]: value for name, value in constants.items()}
        table |= {
            _WORD["STATUS"]: busy,
            _WORD["EVENT_STATUS"]: waiting,
        }
        table |= {_WORD[name]: value for name, value in registers.items()}
        table |= {_WORD["FLOW_KEY"] + i: word for i, word in enumerate(key)}
        event = queue.o.payload.as_value() & queue.o.valid.replicate(EVENT.width)
        table |= {_WORD["EVENT"] + i: event[32 * i : 32 * i + 32] for i in range(EVENT_WORDS)}
        return table

    def _read(self, m: Module, table: dict[int, Value]) -> None:
        """Read accesses: the address is taken, looked up a clock later, answered."""
        bus = self.s_axil
        read = Signal()
        read_word = Signal(abi.ADDRESS_BITS - 2)
        take_read = bus.arvalid & ~read & ~bus.rvalid
        m.d.comb += bus.arready.eq(take_read)
        m.d.sync += [read.eq(take_read), read_word.eq(bus.araddr[2:])]
        with m.If(read):
            m.d.sync += bus.rvalid.eq(1)
            with m.Switch(read_word):
                for address, value in table.items():
                    with m.Case(address):
                        m.d.sync += [bus.rdata.eq(value), bus.rresp.eq(OKAY)]
                with m.Default():
                    m.d.sync += [bus.rdata.eq(0), bus.rresp.eq(SLVERR)]
        with m.Elif(bus.rready):
            m.d.sync += bus.rvalid.eq(0)

    def _transmit_command(
        self, m: Module, command: data.View, fields: dict[str, Signal], new_op: Value
    ) -> Value:
        """The fields of `tx_commands`; whether `new_op` is a command that transmit has."""
        tx_command = self.tx_commands.payload
        m.d.comb += [
            *(
                tx_command[name].eq(command[name])
                for name in TxCommandFields.members
                if name in Command.members
            ),
            tx_command.nonce.eq(Cat(fields[name] for name in _NONCE)),
        ]
        has_context = command.context < self._config.tx_flows
        has_bucket = command.bucket < buckets(self._config.tx_flows)
        return (
            _is_transmit(new_op)
            & (new_op <= max(TxCommand))
            & has_context
            & (has_bucket | (new_op != TxCommand.TX_FLOW_WRITE))
        )
