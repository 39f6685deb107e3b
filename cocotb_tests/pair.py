# SPDX-License-Identifier: Apache-2.0
"""The simulated gateware and the behavioural model side by side, as one transport.

Everything goes to both, and whatever the driver can see must be the same: every frame, every
field of its metadata, every event, every counter.
"""

from sealane.driver.model.device import ModelTransport
from sealane.driver.transport import Completion
from sealane.hdl.abi.config import Config
from sealane.hdl.abi.meta import META, Reason
from sealane.hdl.abi.registers import COUNTERS, OFFSET
from sealane.sim.transport import RtlTransport

# Time is the gateware's own.
TIMED = {OFFSET["STATUS"], OFFSET["COUNT_STALL_CYCLES"]}


def explain(frame: bytes, rtl: Completion, model: Completion) -> str:
    """What differs in the completions of one posted frame."""
    said, meant = META.unpack(rtl.meta), META.unpack(model.meta)
    lines = [
        f"{name}: rtl {said[name]:#x}, model {meant[name]:#x}" for name in said
        if said[name] != meant[name]
    ]  # fmt: skip
    lines.append(f"reasons: rtl {Reason(said['reason'])!r}, model {Reason(meant['reason'])!r}")
    if len(rtl.frame) != len(model.frame):
        lines.append(f"length: rtl {len(rtl.frame)}, model {len(model.frame)}")
    wrong = [i for i, (a, b) in enumerate(zip(rtl.frame, model.frame, strict=False)) if a != b]
    if wrong:
        lines.append(f"{len(wrong)} bytes differ, from {wrong[0]} to {wrong[-1]}")
    lines.append(f"frame of {len(frame)} bytes, model's metadata {meant}")
    return "\n".join(lines)


class Pair:
    """A `Transport` that raises `AssertionError` where the two devices differ."""

    def __init__(self, config: Config, **options: object) -> None:
        self.config = config
        self.rtl = RtlTransport(config, **options)
        self.model = ModelTransport(config)
        self._posted: list[bytes] = []
        self.count = 0  # frames compared

    @property
    def irq(self) -> bool:
        assert self.rtl.irq == self.model.irq, (
            f"after {self.count} frames: irq rtl {self.rtl.irq}, model {self.model.irq}"
        )
        return self.model.irq

    def read(self, address: int) -> int:
        got = self.rtl.read(address)
        if address not in TIMED:
            expected = self.model.read(address)
            assert got == expected, (
                f"after {self.count} frames: register {address:#x}: rtl {got:#x}, "
                f"model {expected:#x}"
            )
        return got

    def write(self, address: int, value: int) -> None:
        self.rtl.write(address, value)
        self.model.write(address, value)

    def post(self, frame: bytes) -> None:
        self._posted.append(frame)
        self.rtl.post(frame)
        self.model.post(frame)

    def poll(self, wait: bool = True) -> list[Completion]:
        assert wait, "without waiting the two are never at the same place"
        got, expected = self.rtl.poll(), self.model.poll()
        posted, self._posted = self._posted, []
        assert len(got) == len(expected) == len(posted)
        for frame, rtl, model in zip(posted, got, expected, strict=True):
            assert rtl == model, f"frame {self.count}:\n{explain(frame, rtl, model)}"
            self.count += 1
        return expected

    def check_counters(self) -> None:
        """Compare every counter that does not count time."""
        for name, _ in COUNTERS:
            self.read(OFFSET["COUNT_" + name.upper()])

    def close(self) -> None:
        self.rtl.close()
