# SPDX-License-Identifier: Apache-2.0
"""The simulated gateware and the behavioural model side by side, as one transport.

Everything goes to both, and whatever the driver can see must be the same: every frame, every
field of its metadata, every event, every counter; of transmit what leaves and every completion.
"""

from sealane.driver.device.transport import Completion, TxOutput
from sealane.driver.model.device import ModelTransport
from sealane.hdl.abi.config import Config
from sealane.hdl.abi.meta import META, Reason
from sealane.hdl.abi.registers import COUNTERS, OFFSET
from sealane.hdl.abi.tx import TX_COUNTERS, TX_META, TX_STATUS, TxOp, TxReason
from sealane.sim.transport import RtlTransport

# Time is the gateware's own.
TIMED = {OFFSET[name] for name in ("STATUS", "COUNT_STALL_CYCLES", "COUNT_TX_STALL_CYCLES")}

# Few contexts and rings that hold two of the longest frames, so that they run out.
TX_SMALL = Config(
    flows=4,
    record_slots=2,
    runs=3,
    scan_limit=5000,
    rescan_limit=3,
    bad_header_limit=3,
    window=1 << 17,
    ring_words=256,
    max_frame=2048,
    tx_flows=4,
    tx_ring_words=256,
)


def explain(frame: bytes, rtl: Completion, model: Completion) -> str:
    """What differs in the completions of one posted frame."""
    said, meant = META.unpack(rtl.meta), META.unpack(model.meta)
    lines = [
        f"{name}: rtl {said[name]:#x}, model {meant[name]:#x}"
        for name in said
        if said[name] != meant[name]
    ]
    lines.append(f"reasons: rtl {Reason(said['reason'])!r}, model {Reason(meant['reason'])!r}")
    lines += differences(rtl.frame, model.frame)
    lines.append(f"frame of {len(frame)} bytes, model's metadata {meant}")
    return "\n".join(lines)


def differences(rtl: bytes, model: bytes) -> list[str]:
    """Where two frames differ."""
    lines = []
    if len(rtl) != len(model):
        lines.append(f"length: rtl {len(rtl)}, model {len(model)}")
    wrong = [i for i, (a, b) in enumerate(zip(rtl, model, strict=False)) if a != b]
    if wrong:
        first, last = wrong[0], wrong[-1]
        lines.append(f"{len(wrong)} bytes differ, from {first} to {last}")
        lines.append(f"rtl {rtl[first : last + 1][:32].hex()}")
        lines.append(f"model {model[first : last + 1][:32].hex()}")
    return lines


def explain_tx(frame: bytes, meta: int, rtl, model) -> str:
    """What differs in what became of one frame of the host: (frame or None, tags, status)."""
    said, meant = TX_STATUS.unpack(rtl[2]), TX_STATUS.unpack(model[2])
    lines = [
        f"{name}: rtl {said[name]:#x}, model {meant[name]:#x}"
        for name in said
        if said[name] != meant[name]
    ]
    reason = TxReason(meant["reason"])
    lines.append(f"reasons: rtl {TxReason(said['reason'])!r}, model {reason!r}")
    lines += [
        f"tag {i}: rtl {a.hex()}, model {b.hex()}"
        for i, (a, b) in enumerate(zip(rtl[1], model[1], strict=False))
        if a != b
    ]
    lines += differences(rtl[0] or b"", model[0] or b"")
    lines.append(f"frame of {len(frame)} bytes, {TX_META.unpack(meta)}, model's status {meant}")
    return "\n".join(lines)


def together(output: TxOutput) -> list[tuple[bytes | None, list[bytes], int]]:
    """Of each frame what left, its tags and its status. Frames that left are as many as their
    completions say; the simulator sees to that."""
    frames = iter(output.frames)
    out = []
    for tags, word in output.completions:
        status = TX_STATUS.unpack(word)
        leaves = status["reason"] == TxReason.NONE and status["op"] != TxOp.DUMP
        out.append((next(frames) if leaves else None, tags, word))
    assert next(frames, None) is None
    return out


class Pair:
    """A `Transport` that raises `AssertionError` where the two devices differ."""

    def __init__(self, config: Config, **options: object) -> None:
        self.config = config
        self.rtl = RtlTransport(config, **options)
        self.model = ModelTransport(config)
        self._posted: list[bytes] = []
        self._posted_tx: list[tuple[bytes, int]] = []
        self.count = 0  # frames compared
        self.tx_count = 0

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

    def post_tx(self, frame: bytes, meta: int) -> None:
        self._posted_tx.append((frame, meta))
        self.rtl.post_tx(frame, meta)
        self.model.post_tx(frame, meta)

    def poll_tx(self, wait: bool = True) -> TxOutput:
        assert wait, "without waiting the two are never at the same place"
        got, expected = self.rtl.poll_tx(), self.model.poll_tx()
        posted, self._posted_tx = self._posted_tx, []
        assert len(got.completions) == len(expected.completions) == len(posted)
        pairs = zip(posted, together(got), together(expected), strict=True)
        for (frame, meta), rtl, model in pairs:
            where = f"transmit's frame {self.tx_count}"
            assert rtl == model, f"{where}:\n{explain_tx(frame, meta, rtl, model)}"
            self.tx_count += 1
        return expected

    def check_counters(self) -> None:
        """Compare every counter that does not count time."""
        for name, _ in COUNTERS + (TX_COUNTERS if self.config.tx_flows else ()):
            self.read(OFFSET["COUNT_" + name.upper()])

    def close(self) -> None:
        self.rtl.close()
