# SPDX-License-Identifier: Apache-2.0
"""The driver's side of one device's receive: contexts, flow table, packets and events.

Everything goes over a `Transport`; the register map and the commands are those of `hdl.abi`, and
`control` writes them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address

from sealane.hdl.abi.commands import FLOW_KEY, Op, Option
from sealane.hdl.abi.config import Config
from sealane.hdl.abi.events import EVENT_WORDS, EventKind
from sealane.hdl.abi.registers import COUNTERS, OFFSET

from ..crypto.keys import CryptoInfo
from .contexts import Contexts, OffloadRefused
from .control import Control, DeviceError
from .counters import NetdevCounters, TlsStat
from .descriptors import DeviceEvent, Handle, RxMeta, RxPacket
from .transport import Transport

__all__ = ["Device", "DeviceError", "Flow", "OffloadRefused", "refusal"]

OFFLOADED_CIPHERS = ("AES_128_GCM", "AES_256_GCM")


@dataclass(frozen=True)
class Flow:
    """Addresses and ports of the packets of one direction."""

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
        self._control = Control(transport)
        self._control.check("FLOWS", self.config.flows)
        self._contexts = Contexts(self.config.flows, self._control, Op.FLOW_WRITE)
        self._options: dict[int, Option] = {}

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
        is no context or no place in the table; then nothing has changed. What the transport and
        the device raise passes too; the context is given back then.
        """

        def install(handle: Handle) -> None:
            self._options[handle.context] = options
            self._install(Op.CONTEXT_ADD, handle, info, seq, number, epoch)

        handle = self._contexts.add(flow.key, install, self._clear)
        self.counters.rx_tls_ctx += 1
        self.stat.TlsRxDevice += 1
        self.stat.TlsCurrRxDevice += 1
        return handle

    def tls_dev_del(self, handle: Handle) -> None:
        """Ends the offload of a direction. Raises `KeyError` on a handle that is not in force."""
        self._contexts.need(handle)
        # The flow first: no packet may find a context that is being cleared.
        self._contexts.unlist(handle)
        self._clear(handle)
        self._contexts.free(handle)
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
        self._contexts.need(handle)
        new = self._contexts.renew(handle.context)
        if number is None:
            self._install(Op.CONTEXT_ADD, new, info, seq, 0, epoch)
        else:
            self._install(Op.REKEY, new, info, seq, number, epoch)
        return new

    def tls_dev_resync(self, handle: Handle, seq: int, number: int | None) -> None:
        """Answers the candidate at `seq`: its record number, or None where it is no record."""
        if self._resync_in_force(handle):
            self._control.set_seq(seq, number or 0)
            self._control.command(Op.RESYNC_ANSWER, handle, refused=number is None)

    def resync_hint(self, handle: Handle, seq: int, number: int) -> None:
        """Stack-driven resync: a record numbered `number` starts at `seq`."""
        if self._resync_in_force(handle):
            self._control.set_seq(seq, number)
            self._control.command(Op.RESYNC_HINT, handle)

    def go_on(self, handle: Handle, park: int) -> None:
        """Ends the park named `park`; one of an earlier generation is over already."""
        if self._contexts.in_force(handle):
            self._control.command(Op.GO_ON, handle, park=park)

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
            generation = self._contexts.whole(event.context, event.generation)
            event = replace(event, generation=generation)
            self.counters.rx_tls_resync_req_pkt += event.kind == EventKind.RESYNC_REQUEST
            self.counters.rx_tls_err += event.kind == EventKind.TAG_MISMATCH
            events.append(event)
        return events

    def device_counters(self) -> dict[str, int]:
        """The device's own counters, 32 bits each, by name."""
        return {name: self._control.read("COUNT_" + name.upper()) for name, _ in COUNTERS}

    # --- state ------------------------------------------------------------------------------

    def _clear(self, handle: Handle) -> None:
        """A context whose flow is unlisted is cleared."""
        self._contexts.write()
        self._control.command(Op.CONTEXT_DELETE, handle)

    def _install(
        self, op: Op, handle: Handle, info: CryptoInfo, seq: int, number: int, epoch: int
    ) -> None:
        self._control.set_seq(seq, number)
        self._control.write("CMD_OPTIONS", self._options[handle.context])
        self._control.install(op, handle, info, epoch=epoch)

    def _meta(self, word: int) -> RxMeta:
        meta = RxMeta.unpack(word)
        if not meta.context_valid:
            return meta
        generation = self._contexts.whole(meta.context, meta.generation)
        return meta if generation == meta.generation else replace(meta, generation=generation)

    def _resync_in_force(self, handle: Handle) -> bool:
        """Counts an answer or hint; one for an earlier generation comes too late."""
        in_force = self._contexts.in_force(handle)
        if in_force:
            self.counters.rx_tls_resync_res_ok += 1
            self.stat.TlsRxDeviceResync += 1
        else:
            self.counters.rx_tls_resync_res_skip += 1
        return in_force
