# SPDX-License-Identifier: Apache-2.0
"""A transport that only records what a driver writes, and in which order."""

from __future__ import annotations

from sealane.driver.device.transport import Completion, TxOutput
from sealane.hdl.abi.commands import STAGE_WORDS
from sealane.hdl.abi.events import EVENT_WORDS
from sealane.hdl.abi.meta import META
from sealane.hdl.abi.registers import IDENT_VALUE, OFFSET


class Registers:
    """A register file that logs the commands rung and the words staged for them."""

    def __init__(
        self, flows: int = 4, ident: int = IDENT_VALUE, busy: int = 3, tx_flows: int = 0
    ) -> None:
        self.values = {OFFSET["IDENT"]: ident, OFFSET["FLOWS"]: flows, OFFSET["TX_FLOWS"]: tx_flows}
        self.stage = [0] * STAGE_WORDS
        self.commands: list[tuple[int, dict[str, int], list[int]]] = []  # op, fields, staged words
        self.busy_reads, self._busy = busy, 0
        self.events: list[int] = []
        self.frames: list[bytes] = []
        self.tx: list[tuple[bytes, int]] = []  # host frames with their metadata
        self.tx_output = TxOutput([], [])  # what the next poll delivers

    @property
    def irq(self) -> bool:
        return bool(self.events)

    def read(self, address: int) -> int:
        if address == OFFSET["STATUS"]:
            self._busy -= 1
            return int(self._busy >= 0)
        word = (address - OFFSET["EVENT"]) // 4
        if 0 <= word < EVENT_WORDS:
            return self.events[0] >> 32 * word & 0xFFFFFFFF
        return self.values.get(address, 0)

    def write(self, address: int, value: int) -> None:
        assert 0 <= value < 1 << 32 and address % 4 == 0
        if address == OFFSET["EVENT_POP"]:
            self.events.pop(0)
        elif address == OFFSET["COMMAND"]:
            assert self._busy <= 0, "rung while busy"
            get = self.values.get
            fields = {name: get(OFFSET[name], 0) for name in OFFSET if name.startswith("CMD_")}
            fields["key"] = sum(get(OFFSET["FLOW_KEY"] + 4 * i, 0) << 32 * i for i in range(10))
            self.commands.append((value, fields, list(self.stage)))
            self._busy = self.busy_reads
        elif OFFSET["STAGE"] <= address < OFFSET["STAGE"] + 4 * STAGE_WORDS:
            self.stage[(address - OFFSET["STAGE"]) // 4] = value
        else:
            self.values[address] = value

    def post(self, frame: bytes) -> None:
        self.frames.append(frame)

    def poll(self, wait: bool = True) -> list[Completion]:
        frames, self.frames = self.frames, []
        meta = META.pack({"decrypted": 1, "payload_length": 100})
        return [Completion(frame, meta) for frame in frames]

    def post_tx(self, frame: bytes, meta: int) -> None:
        self.tx.append((frame, meta))

    def poll_tx(self, wait: bool = True) -> TxOutput:
        output, self.tx_output = self.tx_output, TxOutput([], [])
        return output

    def close(self) -> None:
        pass


def staged(words: list[int], at: int, size: int) -> bytes:
    """`size` bytes of the staging memory, starting at word `at`."""
    return b"".join(word.to_bytes(4, "little") for word in words)[4 * at :][:size]
