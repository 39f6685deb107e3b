# SPDX-License-Identifier: Apache-2.0
"""The device's streams, all AXI4-Stream (ARM IHI 0051)."""

from amaranth.hdl import Mux
from amaranth.lib import stream
from amaranth.lib.wiring import In, Out, PureInterface, Signature

from ..abi.meta import META_BITS
from ..abi.tx import TX_COMPLETION_BITS, TX_META_BITS
from .amaranth_types import Statement

FrameStream = Signature(
    {
        "tdata": Out(128),
        "tkeep": Out(16),
        "tlast": Out(1),
        "tvalid": Out(1),
        "tready": In(1),
    }
)
"""AXI4-Stream of frames without preamble and check sequence, 16 bytes a clock, byte 0 lowest.
`tkeep` is all ones but in a frame's last word, where it has no gaps and at least one byte."""

MetaStream = Signature({"tdata": Out(META_BITS), "tvalid": Out(1), "tready": In(1)})
"""AXI4-Stream of packet metadata (`abi.meta.META`), one a frame."""

TxMetaStream = Signature({"tdata": Out(TX_META_BITS), "tvalid": Out(1), "tready": In(1)})
"""AXI4-Stream of the metadata of the host's frames (`abi.tx.TX_META`), one a frame."""

CompletionStream = Signature(
    {"tdata": Out(TX_COMPLETION_BITS), "tlast": Out(1), "tvalid": Out(1), "tready": In(1)}
)
"""AXI4-Stream of completions, one AXI packet a frame: tags, then `abi.tx.TX_STATUS`."""


def frames_in(port: PureInterface, frames: stream.Interface) -> list[Statement]:
    """Statements that take `frames`, a stream of `layouts.Word`, from a port."""
    word = frames.payload
    return [
        word.data.eq(port.tdata),
        word.last.eq(port.tlast),
        word.bytes.eq(sum(port.tkeep)),
        frames.valid.eq(port.tvalid),
        port.tready.eq(frames.ready),
    ]


def frames_out(frames: stream.Interface, port: PureInterface) -> list[Statement]:
    """Statements that give `frames`, a stream of `layouts.Word`, to a port."""
    word = frames.payload
    return [
        port.tdata.eq(word.data),
        port.tlast.eq(word.last),
        port.tkeep.eq(Mux(word.bytes[4], 0xFFFF, (1 << word.bytes[:4]) - 1)),
        port.tvalid.eq(frames.valid),
        frames.ready.eq(port.tready),
    ]
