# SPDX-License-Identifier: Apache-2.0
"""The driver's side of one device: contexts, flow table, commands, packets and events.

Everything goes over a `Transport`; the register map and the commands are those of `hdl.abi`. A
command is complete when STATUS says so, and the wait for that is bounded: a device that hangs
raises `DeviceError` and hangs nothing else. Keys are written to the staging memory and nowhere
else, and no error names them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address

from sealane.hdl.abi.commands import (
    FLOW_KEY,
    H_POWERS,
    STAGE_IV,
    STAGE_KEY,
    STAGE_POWERS,
    Op,
    Option,
)
from sealane.hdl.abi.config import VERSION_TLS13, Config
from sealane.hdl.abi.events import EVENT_WORDS, EventKind
from sealane.hdl.abi.registers import COUNTERS, IDENT_VALUE, OFFSET

from .counters import NetdevCounters, TlsStat
from .descriptors import DeviceEvent, Handle, RxMeta, RxPacket
from .flowtable import FlowTable, FlowTableFull, FlowWrite
from .keys import CryptoInfo
from .model.gcm import h_powers
from .transport import Transport

STATUS_BUSY = 1
# A command waits for at most the packets that are in the ring, some thousand clocks; a read of
# STATUS takes several.
STATUS_POLLS = 100_000
OFFLOADED_CIPHERS = ("AES_128_GCM", "AES_256_GCM")


class DeviceError(Exception):
    """The device does not answer as the contract says."""


class OffloadRefused(Exception):
    """The connection stays in software; `reason` says why."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True)
class Flow:
    """Addresses and ports of the packets of one receive direction."""

    src: IPv4Address | IPv6Address
    dst: IPv4Address | IPv6Address
    sport: int
    dport: int

    @property
    def key(self) -> int:
        """The packed `FLOW_KEY`."""
        return FLOW_KEY.pack(
            {
                "src": int(self.src),
                "dst": int(self.dst),
                "sport": self.sport,
                "dport": self.dport,
                "ipv6": self.src.version == 6,
            }
        )


def refusal(version: str, cipher: str) -> str | None:
    """Why a connection cannot be offloaded, or None. `cipher`: a name of the IANA registry."""
    if version not in ("1.2", "1.3"):
        return f"TLS version {version}"
    if not any(name in cipher for name in OFFLOADED_CIPHERS):
        return f"cipher {cipher}"
    return None


@dataclass
class _Context:
    key: int
    generation: int
    epoch: int
    version: int
    options: Option


class Device:
    """One device behind `transport`, whose parameters are `config`.

    Raises `DeviceError` if the identification or the parameters are not as expected.
    """

    def __init__(
        self, transport: Transport, config: Config | None = None, stat: TlsStat | None = None
    ) -> None:
        self.config = config or Config()
        self.counters = NetdevCounters()
        self.stat = stat if stat is not None else TlsStat()
        self._transport = transport
        self._check("IDENT", IDENT_VALUE)
        self._check("FLOWS", self.config.flows)
        self._table = FlowTable(self.config.flows)
        self._contexts: dict[int, _Context] = {}
        self._free = list(range(self.config.flows - 1, -1, -1))
        self._generations = [0] * self.config.flows  # of the next installation

    # --- connections ------------------------------------------------------------------------

    def tls_dev_add(
        self,
        flow: Flow,
        info: CryptoInfo,
        seq: int,
        number: int = 0,
        epoch: int = 0,
        options: Option = Option.NONE,
    ) -> Handle:
        """Offloads a receive direction whose record `number` begins at TCP sequence `seq`.

        Raises `OffloadRefused` on a flow that is offloaded already and `FlowTableFull` where there
        is no context or no place in the table; then nothing has changed.
        """
        key = flow.key
        if any(context.key == key for context in self._contexts.values()):
            raise OffloadRefused("flow is offloaded already")
        if not self._free:
            raise FlowTableFull("no free context")
        context = self._free[-1]
        writes = self._table.insert(key, context)  # raises before the device is touched
        self._free.pop()
        generation = self._next_generation(context)
        self._contexts[context] = _Context(key, generation, epoch, info.version, options)
        # The context first: the flow table must never lead to a context without keys.
        self._install(Op.CONTEXT_ADD, context, info, seq, number)
        self._write_flows(writes)
        self.counters.rx_tls_ctx += 1
        self.stat.TlsRxDevice += 1
        self.stat.TlsCurrRxDevice += 1
        return Handle(context, generation)

    def tls_dev_del(self, handle: Handle) -> None:
        """Ends the offload of a direction. Raises `KeyError` on a handle that is not in force."""
        context = self._context(handle)
        # The flow first: no packet may find a context that is being cleared.
        self._write_flows(self._table.delete(context.key))
        self._command(Op.CONTEXT_DELETE, handle)
        del self._contexts[handle.context]
        self._free.append(handle.context)
        self.counters.rx_tls_del += 1
        self.stat.TlsCurrRxDevice -= 1

    def rekey(
        self, handle: Handle, info: CryptoInfo, seq: int, epoch: int, number: int | None = None
    ) -> Handle:
        """New keys in the same context: record 0 of the new epoch begins at `seq`.

        number: what the record at `seq` would be in the old count, so that the device goes on
        from where its walk is; without it the device begins anew at `seq`. Returns the handle
        with the next generation; the old one is void. Raises `KeyError`.
        """
        context = self._context(handle)
        context.generation = self._next_generation(handle.context)
        context.epoch, context.version = epoch, info.version
        if number is None:
            self._install(Op.CONTEXT_ADD, handle.context, info, seq, 0)
        else:
            self._install(Op.REKEY, handle.context, info, seq, number)
        return Handle(handle.context, context.generation)

    def tls_dev_resync(self, handle: Handle, seq: int, number: int | None) -> None:
        """Answers the candidate at `seq`: its record number, or None where it is no record."""
        if self._resync_in_force(handle):
            self._set_seq(seq, number or 0)
            self._command(Op.RESYNC_ANSWER, handle, refused=number is None)

    def resync_hint(self, handle: Handle, seq: int, number: int) -> None:
        """Stack-driven resync: a record numbered `number` starts at `seq`."""
        if self._resync_in_force(handle):
            self._set_seq(seq, number)
            self._command(Op.RESYNC_HINT, handle)

    def go_on(self, handle: Handle, park: int) -> None:
        """Ends the park named `park`; one of an earlier generation is over already."""
        if self._in_force(handle):
            self._command(Op.GO_ON, handle, park=park)

    # --- packets and events -----------------------------------------------------------------

    def receive(self, frames: Iterable[bytes]) -> list[RxPacket]:
        """Passes frames through the device; they come back in order, all of them.

        Raises `DeviceError` where the device does not give back as many.
        """
        posted = 0
        for frame in frames:
            self._transport.post(frame)
            posted += 1
        packets = [RxPacket(c.frame, self._meta(c.meta)) for c in self._transport.poll()]
        if len(packets) != posted:
            raise DeviceError(f"{posted} frames in, {len(packets)} out")
        for packet in packets:
            if packet.marked:
                self.counters.rx_tls_decrypted_packets += 1
                self.counters.rx_tls_decrypted_bytes += packet.meta.payload_length
        return packets

    def events(self) -> list[DeviceEvent]:
        """Takes all waiting events out of the device; reads nothing while there is no interrupt."""
        events: list[DeviceEvent] = []
        while self._transport.irq:
            if len(events) > 2 * self.config.events:
                raise DeviceError("the event queue does not empty")
            word = 0
            for i in range(EVENT_WORDS):
                word |= self._transport.read(OFFSET["EVENT"] + 4 * i) << 32 * i
            self._transport.write(OFFSET["EVENT_POP"], 1)
            event = DeviceEvent.unpack(word)
            if event.context < len(self._generations):
                generation = self._whole(event.context, event.generation)
                event = replace(event, generation=generation)
            self.counters.rx_tls_resync_req_pkt += event.kind == EventKind.RESYNC_REQUEST
            self.counters.rx_tls_err += event.kind == EventKind.TAG_MISMATCH
            events.append(event)
        return events

    def device_counters(self) -> dict[str, int]:
        """The device's own counters, 32 bits each, by name."""
        read = self._transport.read
        return {name: read(OFFSET["COUNT_" + name.upper()]) for name, _ in COUNTERS}

    # --- commands ---------------------------------------------------------------------------

    def _install(self, op: Op, context: int, info: CryptoInfo, seq: int, number: int) -> None:
        """Stages the key and rings `op`, which takes and clears it."""
        state = self._contexts[context]
        self._stage(STAGE_KEY, info.key.ljust(32, b"\0"))
        self._stage(STAGE_IV, info.iv.ljust(12, b"\0"))
        powers = h_powers(info.key)
        assert len(powers) == H_POWERS
        self._stage(STAGE_POWERS, b"".join(powers))
        self._set_seq(seq, number)
        self._transport.write(OFFSET["CMD_OPTIONS"], state.options)
        self._command(
            op,
            Handle(context, state.generation),
            epoch=state.epoch,
            version=info.version == VERSION_TLS13,
            key256=len(info.key) == 32,
        )

    def _stage(self, word: int, data: bytes) -> None:
        for i in range(0, len(data), 4):
            value = int.from_bytes(data[i : i + 4], "little")
            self._transport.write(OFFSET["STAGE"] + 4 * word + i, value)

    def _write_flows(self, writes: Iterable[FlowWrite]) -> None:
        for write in writes:
            for i in range((FLOW_KEY.width + 31) // 32):
                value = write.key >> 32 * i & 0xFFFFFFFF
                self._transport.write(OFFSET["FLOW_KEY"] + 4 * i, value)
            self._command(
                Op.FLOW_WRITE,
                Handle(write.context, 0),
                valid=write.valid,
                table=write.table,
                slot=write.slot,
                row=write.row,
            )

    def _set_seq(self, seq: int, number: int) -> None:
        write = self._transport.write
        write(OFFSET["CMD_SEQ"], seq)
        write(OFFSET["CMD_NUMBER_LO"], number & 0xFFFFFFFF)
        write(OFFSET["CMD_NUMBER_HI"], number >> 32)

    def _command(
        self,
        op: Op,
        handle: Handle,
        *,
        epoch: int = 0,
        version: bool = False,
        key256: bool = False,
        refused: bool = False,
        valid: bool = False,
        table: int = 0,
        slot: int = 0,
        park: int = 0,
        row: int = 0,
    ) -> None:
        """Rings one command and waits until it has passed the pipeline."""
        write = self._transport.write
        generation = handle.generation & 0xFF
        write(OFFSET["CMD_CONTEXT"], handle.context | generation << 16 | epoch << 24)
        flags = version | key256 << 1 | refused << 2 | valid << 3 | table << 4 | slot << 5
        write(OFFSET["CMD_FLAGS"], flags | park << 8 | row << 16)
        write(OFFSET["COMMAND"], op)
        for _ in range(STATUS_POLLS):
            if not self._transport.read(OFFSET["STATUS"]) & STATUS_BUSY:
                return
        raise DeviceError(f"command {op.name} does not end")

    # --- state ------------------------------------------------------------------------------

    def _check(self, name: str, expected: int) -> None:
        value = self._transport.read(OFFSET[name])
        if value != expected:
            raise DeviceError(f"{name} is {value:#x}, expected {expected:#x}")

    def _next_generation(self, context: int) -> int:
        """Generations are counted per context over all its flows and never come again: a packet may
        wait in TCP for as long as it likes. The device knows their low 8 bits."""
        generation = self._generations[context]
        self._generations[context] = generation + 1
        return generation

    def _whole(self, context: int, low: int) -> int:
        """The generation of which the device gave the low 8 bits: the latest that fits. In the
        device itself there are never two generations of a context but while one command runs."""
        latest = self._generations[context] - 1
        return max(low, latest - (latest - low & 0xFF))

    def _meta(self, word: int) -> RxMeta:
        meta = RxMeta.unpack(word)
        if not meta.context_valid:
            return meta
        generation = self._whole(meta.context, meta.generation)
        return meta if generation == meta.generation else replace(meta, generation=generation)

    def _in_force(self, handle: Handle) -> bool:
        context = self._contexts.get(handle.context)
        return context is not None and context.generation == handle.generation

    def _context(self, handle: Handle) -> _Context:
        if not self._in_force(handle):
            raise KeyError(handle)
        return self._contexts[handle.context]

    def _resync_in_force(self, handle: Handle) -> bool:
        """Counts an answer or hint; one for an earlier generation comes too late."""
        in_force = self._in_force(handle)
        if in_force:
            self.counters.rx_tls_resync_res_ok += 1
            self.stat.TlsRxDeviceResync += 1
        else:
            self.counters.rx_tls_resync_res_skip += 1
        return in_force
