# SPDX-License-Identifier: Apache-2.0
"""The simulator of a device: Verilator's C++ and `harness.cpp` as one shared library.

Kept and built as `verilate` says. For waves zlib's and lz4's headers are needed.
"""

import functools
import os
import shlex
from pathlib import Path

from sealane.hdl.abi.config import Config
from sealane.hdl.top import Device
from sealane.hdl.verilog import to_verilog

from .verilate import Bench, cache_folder, library, verilator_root

__all__ = ["WAIVERS", "build", "cache_folder", "verilator_root"]

HARNESS = Path(__file__).parent / "harness.cpp"
STREAMS = Path(__file__).parent / "streams.h"
WAIVERS = Path(__file__).parent / "waivers.vlt"
TOP = "sealane"
# Files that the cores compile side by side.
SPLIT = ("--output-split", "40000", "--output-split-cfuncs", "3000")
DEFAULT_OPTIMIZE = "-O2 -march=native"


@functools.cache
def build(config: Config, waves: bool = False) -> Path:
    """The shared library of a device, built if it is not there yet (one to three minutes).

    waves: with FST tracing, which is slower even where no file is written. g++'s options come
    from $SEALANE_SIM_OPTIMIZE. A process that has a simulator keeps it, whatever happens to the
    sources. Raises `BuildError`.
    """
    optimize = shlex.split(os.environ.get("SEALANE_SIM_OPTIMIZE", DEFAULT_OPTIMIZE))
    bench = Bench(
        top=TOP,
        text=HARNESS.read_text(),
        headers=(STREAMS,),
        optimize=tuple(optimize),
        verilate=(*SPLIT, *(("--trace-fst", "--no-trace-top") if waves else ())),
        defines=(f"-DSEALANE_TX={int(config.tx_flows > 0)}",),
        waves=waves,
    )
    return library("device", lambda: to_verilog(Device(config), TOP), bench, repr(config))
