# SPDX-License-Identifier: Apache-2.0
"""From addresses and ports to a context, and the point where commands come between packets.

Two tables with two slots a row (`abi/flowhash.py`): each table gives one row a lookup, and the
four whole keys found are compared. The driver places the entries.
"""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, stream
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Component, In, Out

from ..abi.commands import FLOW_KEY, Op
from ..abi.config import Config
from ..abi.flowhash import BUCKET_SLOTS, POLYNOMIALS, buckets, crc
from ..abi.tx import TxCommand
from ..common.layouts import FlowKey, Layouts

TABLES = len(POLYNOMIALS)
GROUP = 16  # bits of a key compared in one clock; the groups are joined in the next


def row_bits(key: Value, table: int, bits: int) -> Value:
    """The row of `table` as an XOR of key bits: CRC is linear."""
    base = crc(0, table)
    columns = [crc(1 << i, table) ^ base for i in range(FLOW_KEY.width)]
    return Cat(
        Cat(key[i] for i, column in enumerate(columns) if column >> bit & 1).xor()
        ^ (base >> bit & 1)
        for bit in range(bits)
    )


class FlowTable(Component):
    """Looks up packets and lets commands in between them.

    Latency four clocks, one packet or command a clock. Backpressure: all four stages wait while
    the output does. A command that waits goes before a packet that waits; otherwise order is
    kept. FLOW_WRITE ends here: packets behind it find the new entry, packets before it the old.
    After power-up no entry is valid; reset clears none.

    descs: packets; `hit` is given only for TCP. commands: as the driver gives them.
    flow_key: key of the entry to write, steady while a FLOW_WRITE is offered or under way.
    flow_write_done: high for one clock when a FLOW_WRITE is executed.
    work: packets with their context, and all other commands.

    The table of transmit has its own layout of `work`, with its own commands and `write_op`.
    """

    def __init__(
        self,
        config: Config,
        work: data.StructLayout | None = None,
        write_op: Op | TxCommand = Op.FLOW_WRITE,
    ) -> None:
        self._config = config
        self._layouts = layouts = Layouts(config)
        self._work = work or layouts.work
        self._write_op = write_op
        super().__init__(
            {
                "descs": In(stream.Signature(layouts.packet_desc)),
                "commands": In(stream.Signature(self._work["command"].shape)),
                "flow_key": In(FlowKey),
                "flow_write_done": Out(1),
                "work": Out(stream.Signature(self._work)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        layouts, depth = self._layouts, buckets(self._config.flows)
        command_layout = self._work["command"].shape
        bits = (depth - 1).bit_length()
        entry = data.StructLayout(
            {"valid": 1, "key": FLOW_KEY.width, "context": layouts.context_bits}
        )
        # A packet and a command never share a stage, so they share its registers.
        width = max(layouts.packet_desc.size, command_layout.size)

        advance = Signal()
        m.d.comb += [
            advance.eq(self.work.ready | ~self.work.valid),
            self.commands.ready.eq(advance),
            self.descs.ready.eq(advance & ~self.commands.valid),
        ]

        # ---- hash
        h_valid, h_is_command, h_item = Signal(), Signal(), Signal(width)
        h_rows = [Signal(bits, name=f"row_{table}") for table in range(TABLES)]
        with m.If(advance):
            m.d.sync += [
                h_valid.eq(self.commands.valid | self.descs.valid),
                h_is_command.eq(self.commands.valid),
                h_item.eq(Mux(self.commands.valid, self.commands.payload, self.descs.payload)),
            ]
            key = Value.cast(self.descs.payload.key)
            m.d.sync += [
                bucket.eq(row_bits(key, table, bits)) for table, bucket in enumerate(h_rows)
            ]

        # ---- read, or write
        command = data.View(command_layout, h_item[: command_layout.size])
        write = Signal()
        m.d.comb += [
            write.eq(advance & h_valid & h_is_command & (command.op == self._write_op)),
            self.flow_write_done.eq(write),
        ]
        found = []
        for table, bucket in enumerate(h_rows):
            memory = Memory(shape=data.ArrayLayout(entry, BUCKET_SLOTS), depth=depth, init=[])
            m.submodules[f"table_{table}"] = memory
            write_port = memory.write_port(granularity=1)
            read_port = memory.read_port()
            m.d.comb += [
                write_port.addr.eq(command.bucket),
                write_port.en.eq(
                    Mux(write & (command.table == table), Const(1, BUCKET_SLOTS) << command.slot, 0)
                ),
                read_port.addr.eq(bucket),
                read_port.en.eq(advance),
            ]
            for slot in range(BUCKET_SLOTS):
                m.d.comb += [
                    write_port.data[slot].valid.eq(command.valid),
                    write_port.data[slot].key.eq(self.flow_key),
                    write_port.data[slot].context.eq(command.context),
                ]
                found.append(read_port.data[slot])
        r_valid, r_is_command, r_item = Signal(), Signal(), Signal(width)
        with m.If(advance):
            m.d.sync += [
                r_valid.eq(h_valid & ~write),
                r_is_command.eq(h_is_command),
                r_item.eq(h_item),
            ]

        # ---- compare
        c_valid, c_is_command, c_item = Signal(), Signal(), Signal(width)
        r_desc = data.View(layouts.packet_desc, r_item[: layouts.packet_desc.size])
        r_key = Value.cast(r_desc.key)
        equal = [Signal((FLOW_KEY.width + GROUP - 1) // GROUP + 1) for _ in found]
        contexts = [Signal(layouts.context_bits) for _ in found]
        with m.If(advance):
            m.d.sync += [
                c_valid.eq(r_valid),
                c_is_command.eq(r_is_command),
                c_item.eq(r_item),
            ]
            for groups, context, place in zip(equal, contexts, found, strict=True):
                parts = [
                    place.key[i : i + GROUP] == r_key[i : i + GROUP]
                    for i in range(0, FLOW_KEY.width, GROUP)
                ]
                m.d.sync += [
                    groups.eq(Cat(parts, place.valid & r_desc.is_tcp & ~r_is_command)),
                    context.eq(place.context),
                ]

        # ---- out. While the driver moves an entry it lies in two places, with one context.
        hits = [groups.all() for groups in equal]
        context = 0
        for hit, candidate in zip(hits, contexts, strict=True):
            context = context | Mux(hit, candidate, 0)
        with m.If(advance):
            work = self.work.payload
            m.d.sync += [
                self.work.valid.eq(c_valid),
                work.is_command.eq(c_is_command),
                work.command.eq(c_item[: command_layout.size]),
                work.packet.eq(c_item[: layouts.packet_desc.size]),
                work.hit.eq(Cat(hits).any()),
                work.context.eq(context),
            ]
        return m
