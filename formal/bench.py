# SPDX-License-Identifier: Apache-2.0
"""A design with its properties, and the tool that proves them or gives a counterexample.

A bench is an Amaranth module whose free inputs the solver chooses anew in every clock. It starts
from the initial values of all registers and memories; nothing resets it later. Properties are
Amaranth's `Assert`, conditions on the environment its `Assume`.
"""

import fcntl
import functools
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from amaranth.asserts import AnyConst, Initial
from amaranth.back import rtlil
from amaranth.hdl import Assert, Assume, ClockDomain, Module, Signal, Value

# What SymbiYosys and its parts call each other, and where YoWASP put them.
LINKS = {name: f"yowasp-{name}" for name in ("yosys", "yosys-smtbmc", "yosys-witness")}
LINKS["sby"] = "yowasp-sby"

TASK = """[options]
mode {mode}
depth {depth}
timeout {timeout}

[engines]
smtbmc {options} z3 {arguments}

[script]
read_rtlil bench.il
prep -top bench
{passes}

[files]
bench.il
"""


@dataclass(frozen=True)
class Outcome:
    """What the tool said.

    status: PASS, FAIL (a counterexample from the initial state), UNKNOWN (the induction step does
        not close), TIMEOUT or ERROR. log: the tool's output.
    """

    status: str
    log: str


class Bench:
    """`m` is the module under construction; free inputs, constants and properties beside it."""

    def __init__(self):
        self.m = Module()
        self.m.domains.sync = domain = ClockDomain(reset_less=True)
        self._inputs = [domain.clk]
        self.part = None  # what the claims that follow belong to
        self.proving = None  # the parts whose claims are to be proven; None: all
        self.proven = ()  # parts that were proven before
        self.parts = set()

    def free(self, shape, name):
        """A signal whose value the solver chooses in every clock."""
        signal = Signal(shape, name=name)
        self._inputs.append(signal)
        return signal

    def free_inputs(self, component, *, but=()):
        """Drives the component's inputs with free signals, those whose names are in `but` not."""
        for path, member, value in component.signature.flatten(component):
            if member.flow.name == "In" and path[0] not in but and "_".join(path) not in but:
                value = Value.cast(value)
                self.m.d.comb += value.eq(self.free(len(value), "_".join(map(str, path))))

    def constant(self, shape, name):
        """A signal whose value the solver chooses once."""
        signal = Signal(shape, name=name)
        value = Value.cast(signal)
        self.m.d.comb += value.eq(AnyConst(len(value)))
        return signal

    def first(self):
        """High in the first clock."""
        return Initial()

    def before(self, value, name="before"):
        """The value of the clock before; 0 in the first."""
        value = Value.cast(value)
        signal = Signal(len(value), name=name)
        self.m.d.sync += signal.eq(value)
        return signal

    def claim(self, condition):
        """The property: holds in every clock.

        An induction may be done in parts: what is not `proving` is taken as given up to the clock
        before, and what is `proven` in this clock too. With each part proven, all of it is.
        """
        self.parts.add(self.part)
        if self.proving is not None and self.part not in self.proving:
            held = Signal(init=1, name="held")
            self.m.d.sync += held.eq(condition)
            self.m.d.comb += Assume(held)
            if self.part in self.proven:
                self.m.d.comb += Assume(condition)
            return
        # The place of the caller is what the tool names when the claim fails.
        self.m.d.comb += Assert(condition, src_loc_at=1)

    def assume(self, condition):
        """The environment keeps to this."""
        self.m.d.comb += Assume(condition)

    def holds_until_taken(self, port, *, assume=False, name="port"):
        """Once a stream offers a payload it goes on offering that payload until it is taken."""
        payload = Value.cast(port.payload)
        waiting = self.before(port.valid & ~port.ready, f"{name}_waiting")
        held = self.before(payload, f"{name}_held")
        rule = ~waiting | (port.valid & (payload == held))
        (self.assume if assume else self.claim)(rule)

    def rtlil(self):
        """The bench as text that Yosys reads."""
        return rtlil.convert(self.m, name="bench", ports=self._inputs, emit_src=True)


@functools.cache
def prepare():
    """YoWASP compiles Yosys for this machine when it first runs, in a minute that no proof's
    timeout should count; of several processes one does it and the others wait."""
    with Path(tempfile.gettempdir(), f"sealane-yowasp-{os.getuid()}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        tool = Path(sys.executable).parent / LINKS["yosys"]
        subprocess.run([str(tool), "-V"], check=True, capture_output=True)


# Without uninterpreted functions and with a fresh solver for each question z3 takes its faster
# way for bit vectors: for one hard question instead of many easy ones.
FAST = {"options": "--unroll", "arguments": "-- --noincr"}


def run(bench, *, mode="bmc", depth, timeout=600, passes="", options="--presat", arguments=""):
    """Runs SymbiYosys on the bench; an `Outcome`.

    mode: "bmc" looks at `depth` clocks from the initial state, "prove" adds the induction step
    over `depth` clocks. timeout: seconds. passes: further Yosys commands. options: smtbmc's.
    arguments: yosys-smtbmc's, behind the solver's name.
    """
    prepare()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tools = folder / "bin"
        tools.mkdir()
        own = Path(sys.executable).parent
        for link, target in LINKS.items():
            (tools / link).symlink_to(own / target)
        (folder / "bench.il").write_text(bench.rtlil())
        (folder / "bench.sby").write_text(
            TASK.format(
                mode=mode,
                depth=depth,
                timeout=timeout,
                passes=passes,
                options=options,
                arguments=arguments,
            )
        )
        path = os.pathsep.join([str(tools), str(own), os.environ.get("PATH", "")])
        done = subprocess.run(
            [str(tools / "sby"), "-f", "bench.sby"],
            cwd=folder,
            env={**os.environ, "PATH": path},
            capture_output=True,
            text=True,
        )
        status = folder / "bench" / "status"
        words = status.read_text().split() if status.exists() else ["ERROR"]
        trace = sorted((folder / "bench").rglob("trace*.vcd"))
        note = f"\ntrace: {trace[0]}" if trace else ""
        return Outcome(words[0], done.stdout + done.stderr + note)
