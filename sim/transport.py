# SPDX-License-Identifier: Apache-2.0
"""The simulated gateware as a transport for the driver."""

import ctypes
from itertools import pairwise
from pathlib import Path

from sealane.driver.device.transport import Completion, TxOutput
from sealane.hdl.abi.config import Config
from sealane.hdl.abi.tx import TX_COMPLETION_BITS, TX_META_BITS

from .build import build
from .errors import StreamError

STATS = (
    "cycles", "first_in", "last_out", "words_in", "words_out", "stall_cycles", "frames_in",
    "frames_out", "frames_posted", "tx_first_in", "tx_last_out", "tx_words_in", "tx_words_out",
    "tx_stall_cycles", "tx_frames_in", "tx_frames_out", "tx_frames_posted", "tx_completions",
)  # fmt: skip
BUS_BOUND = 1000  # clocks that a register access may take; it takes five
META_BYTES = 64
BEAT_BYTES = TX_COMPLETION_BITS // 8
OUTPUTS = ("m_axis", "m_meta", "m_tx_axis", "m_tx_comp")  # in the order of `Output`'s bits


class RtlTransport:
    """A device under Verilator; implements `driver.transport.Transport`.

    Time stands still between calls: clocks pass in `read`, `write`, `poll`, `poll_tx` and `run`.

    config: the device's parameters; the first use of each builds a simulator, see `build`.
    waves: file for the waves (FST). seed, idle, stall: share of clocks, 0 to 1 in steps of 1/256,
    without a word at each input and without `ready` at each output. bound: clocks without any
    word in or out after which `poll` and `poll_tx` give up.

    Raises `BuildError` if there is no simulator to be had, `OSError` if `waves` cannot be written.
    """

    def __init__(
        self,
        config: Config | None = None,
        waves: str | Path | None = None,
        *,
        seed: int = 0,
        idle: float = 0,
        stall: float = 0,
        bound: int = 100_000,
    ) -> None:
        self.config = config or Config()
        self._bound = bound
        self._device = None
        if waves is not None:
            Path(waves).open("wb").close()  # a path that cannot be written is said at once
        self._library = _load(build(self.config, waves is not None))
        name = str(waves).encode() if waves is not None else None
        self._device = self._library.sealane_new(name)
        self._stats = self._library.sealane_stats(self._device)
        self._library.sealane_options(self._device, seed, int(idle * 256), int(stall * 256))
        self._check()

    def __enter__(self) -> "RtlTransport":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    @property
    def irq(self) -> bool:
        """The interrupt line: an event is waiting."""
        return bool(self._library.sealane_irq(self._device))

    def read(self, address: int) -> int:
        """A 32-bit register; 0 where there is none. Raises `TimeoutError` without an answer."""
        value = ctypes.c_uint32()
        self._answered(
            self._library.sealane_read(self._device, address, ctypes.byref(value), BUS_BOUND),
            address,
        )
        return value.value

    def write(self, address: int, value: int) -> None:
        """Write a 32-bit register. Raises `TimeoutError` without an answer."""
        self.try_write(address, value)

    def try_write(self, address: int, value: int) -> bool:
        """Write a 32-bit register; whether the device says OKAY."""
        response = self._library.sealane_write(self._device, address, value, BUS_BOUND)
        self._answered(response, address)
        return bool(response == 0)

    def post(self, frame: bytes) -> None:
        """Queue a frame for the input. Raises `ValueError` on an empty one."""
        if not frame:
            raise ValueError("a frame has at least one byte")
        self._library.sealane_post(self._device, frame, len(frame))

    def poll(self, wait: bool = True) -> list[Completion]:
        """Frames and metadata that have come out; with `wait`, of all frames that were posted.

        Waits until transmit is done as well. Raises `TimeoutError` if nothing moves any more,
        `StreamError` if a port breaks its rules.
        """
        self._advance(wait)
        length = ctypes.c_uint32()
        count = self._library.sealane_waiting(self._device, ctypes.byref(length))
        if not count:
            return []
        data = ctypes.create_string_buffer(length.value)
        ends = (ctypes.c_uint32 * count)()
        metas = ctypes.create_string_buffer(count * META_BYTES)
        self._library.sealane_take(self._device, count, data, ends, metas)
        raw, packed = data.raw, metas.raw
        out, start = [], 0
        for i, end in enumerate(ends):
            meta = int.from_bytes(packed[META_BYTES * i : META_BYTES * (i + 1)], "little")
            out.append(Completion(raw[start:end], meta))
            start = end
        return out

    def post_tx(self, frame: bytes, meta: int) -> None:
        """Queue a frame of the host for transmit, with its packed `TX_META`.

        Raises `ValueError` on an empty frame and on a device without transmit.
        """
        if not self.config.tx_flows:
            raise ValueError("this device has no transmit: tx_flows is 0")
        if not frame:
            raise ValueError("a frame has at least one byte")
        packed = meta.to_bytes(TX_META_BITS // 8, "little")
        self._library.sealane_post_tx(self._device, frame, len(frame), packed)

    def poll_tx(self, wait: bool = True) -> TxOutput:
        """What transmit has given out; with `wait`, of all frames that were posted.

        Waits until receive is done as well. Raises as `poll` does.
        """
        self._advance(wait)
        size = ctypes.c_uint32()
        count = self._library.sealane_waiting_tx(self._device, ctypes.byref(size))
        data = ctypes.create_string_buffer(size.value)
        ends = (ctypes.c_uint32 * count)()
        self._library.sealane_take_tx(self._device, count, data, ends)
        frames = [data.raw[start:end] for start, end in pairwise((0, *ends))]
        count = self._library.sealane_waiting_completions(self._device, ctypes.byref(size))
        data = ctypes.create_string_buffer(size.value * BEAT_BYTES)
        ends = (ctypes.c_uint32 * count)()
        self._library.sealane_take_completions(self._device, count, data, ends)
        raw, completions = data.raw, []
        for start, end in pairwise((0, *ends)):
            beats = [raw[BEAT_BYTES * i : BEAT_BYTES * (i + 1)] for i in range(start, end)]
            completions.append((beats[:-1], int.from_bytes(beats[-1], "little")))
        return TxOutput(frames, completions)

    def hold(self, *outputs: str) -> None:
        """From now on these output ports, of `OUTPUTS`, are never ready; the others are."""
        mask = sum(1 << OUTPUTS.index(name) for name in outputs)
        self._library.sealane_hold(self._device, mask)

    def run(self, clocks: int) -> None:
        """Let clocks pass. Raises `StreamError`."""
        self._library.sealane_clocks(self._device, clocks)
        self._check()

    def stats(self) -> dict[str, int]:
        """Clocks and words by the names in `STATS`; see `harness.cpp`."""
        return dict(zip(STATS, self._stats[: len(STATS)], strict=True))

    def clear_stats(self) -> None:
        """Restart the count of words and stalled clocks and the stamps of first and last word."""
        self._library.sealane_clear(self._device)

    def close(self) -> None:
        """End the simulation; waves are complete then. Nothing else may follow."""
        if self._device:
            self._library.sealane_delete(self._device)
            self._device = None

    def _advance(self, wait: bool) -> None:
        """With `wait`, let clocks pass until everything that was posted is done."""
        if wait and self._library.sealane_run(self._device, self._bound) == 1:
            stats = self.stats()
            left = stats["frames_posted"] - stats["frames_out"]
            tx_left = stats["tx_frames_posted"] - stats["tx_completions"]
            raise TimeoutError(
                f"{left} of {stats['frames_posted']} frames did not come out of the simulated "
                f"device within {self._bound} clocks"
                + f", {tx_left} completions of transmit did not"
                * (self.config.tx_flows > 0)
            )
        self._check()

    def _check(self) -> None:
        error = self._library.sealane_error(self._device)
        if error:
            raise StreamError(error.decode())

    def _answered(self, response: int, address: int) -> None:
        self._check()
        if response < 0:
            raise TimeoutError(f"no answer from register {address:#x} in {BUS_BOUND} clocks")


def _load(path: Path) -> ctypes.CDLL:
    library = ctypes.CDLL(str(path))
    device, uint, long = ctypes.c_void_p, ctypes.c_uint32, ctypes.c_uint64
    pointer = ctypes.POINTER(uint)
    calls: dict[str, tuple[object, list[object]]] = {
        "new": (device, [ctypes.c_char_p]),
        "delete": (None, [device]),
        "options": (None, [device, long, uint, uint]),
        "hold": (None, [device, uint]),
        "post": (None, [device, ctypes.c_char_p, uint]),
        "post_tx": (None, [device, ctypes.c_char_p, uint, ctypes.c_char_p]),
        "run": (ctypes.c_int, [device, long]),
        "clocks": (None, [device, long]),
        "write": (ctypes.c_int, [device, uint, uint, long]),
        "read": (ctypes.c_int, [device, uint, pointer, long]),
        "irq": (ctypes.c_int, [device]),
        "error": (ctypes.c_char_p, [device]),
        "stats": (ctypes.POINTER(long), [device]),
        "clear": (None, [device]),
        "waiting": (uint, [device, pointer]),
        "take": (None, [device, uint, ctypes.c_char_p, pointer, ctypes.c_char_p]),
        "waiting_tx": (uint, [device, pointer]),
        "take_tx": (None, [device, uint, ctypes.c_char_p, pointer]),
        "waiting_completions": (uint, [device, pointer]),
        "take_completions": (None, [device, uint, ctypes.c_char_p, pointer]),
    }
    for name, (result, arguments) in calls.items():
        function = getattr(library, f"sealane_{name}")
        function.restype = result
        function.argtypes = arguments
    return library
