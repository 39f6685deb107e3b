# SPDX-License-Identifier: Apache-2.0
"""A device's registers as both directions use them: who it is, staging memory, commands.

A command is complete when STATUS says so, and the wait for that is bounded: a device that hangs
raises `DeviceError` and hangs nothing else. Keys are written to the staging memory and nowhere
else, and no error names them.
"""

from __future__ import annotations

from sealane.hdl.abi.commands import FLOW_KEY, H_POWERS, STAGE_IV, STAGE_KEY, STAGE_POWERS, Op
from sealane.hdl.abi.config import VERSION_TLS13
from sealane.hdl.abi.registers import IDENT_VALUE, OFFSET
from sealane.hdl.abi.tx import TxCommand

from ..crypto.gcm import h_powers
from ..crypto.keys import CryptoInfo
from .descriptors import Handle
from .flowtable import FlowWrite
from .transport import Transport

STATUS_BUSY = 1
# A command waits for at most the packets that are in the ring, some thousand clocks; a read of
# STATUS takes several.
STATUS_POLLS = 100_000


class DeviceError(Exception):
    """The device does not answer as the contract says."""


class Control:
    """The registers of the device behind `transport`.

    Raises `DeviceError` if it is no Sealane device.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self.check("IDENT", IDENT_VALUE)

    def check(self, name: str, expected: int) -> None:
        """Raises `DeviceError` if a register does not read as expected."""
        value = self.read(name)
        if value != expected:
            raise DeviceError(f"{name} is {value:#x}, expected {expected:#x}")

    def read(self, name: str) -> int:
        """A register by its name."""
        return self._transport.read(OFFSET[name])

    def write(self, name: str, value: int) -> None:
        """Write a register by its name."""
        self._transport.write(OFFSET[name], value)

    def install(
        self, op: Op | TxCommand, handle: Handle, info: CryptoInfo, *, epoch: int = 0
    ) -> None:
        """Stages a key and rings `op`, which takes and clears it."""
        powers = h_powers(info.key)
        assert len(powers) == H_POWERS
        self._stage(STAGE_KEY, info.key.ljust(32, b"\0"))
        self._stage(STAGE_IV, info.iv.ljust(12, b"\0"))
        self._stage(STAGE_POWERS, b"".join(powers))
        self.command(
            op,
            handle,
            epoch=epoch,
            version=info.version == VERSION_TLS13,
            key256=len(info.key) == 32,
        )

    def write_flow(self, op: Op | TxCommand, write: FlowWrite) -> None:
        """Writes an entry of a flow table; op: the command of that table."""
        for i in range((FLOW_KEY.width + 31) // 32):
            value = write.key >> 32 * i & 0xFFFFFFFF
            self._transport.write(OFFSET["FLOW_KEY"] + 4 * i, value)
        self.command(
            op,
            Handle(write.context, 0),
            valid=write.valid,
            table=write.table,
            slot=write.slot,
            bucket=write.bucket,
        )

    def set_seq(self, seq: int, number: int) -> None:
        """Position and record number of the next command."""
        self.write("CMD_SEQ", seq)
        self.set_number(number)

    def set_number(self, number: int) -> None:
        """Record number of the next command."""
        self.write("CMD_NUMBER_LO", number & 0xFFFFFFFF)
        self.write("CMD_NUMBER_HI", number >> 32)

    def command(
        self,
        op: Op | TxCommand,
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
        bucket: int = 0,
    ) -> None:
        """Rings one command and waits until it has passed the pipeline."""
        generation = handle.generation & 0xFF
        self.write("CMD_CONTEXT", handle.context | generation << 16 | epoch << 24)
        flags = version | key256 << 1 | refused << 2 | valid << 3 | table << 4 | slot << 5
        self.write("CMD_FLAGS", flags | park << 8 | bucket << 16)
        self.write("COMMAND", op)
        for _ in range(STATUS_POLLS):
            if not self.read("STATUS") & STATUS_BUSY:
                return
        raise DeviceError(f"command {op.name} does not end")

    def _stage(self, word: int, data: bytes) -> None:
        for i in range(0, len(data), 4):
            value = int.from_bytes(data[i : i + 4], "little")
            self._transport.write(OFFSET["STAGE"] + 4 * word + i, value)
