# SPDX-License-Identifier: Apache-2.0
"""Walkers with one fault each, to test that `tests.trials.brute_force.trial` notices it.

    python -m tests.trials.brute_force.mutants --trials 2000

runs the trials 0, 1, ... on each faulty model until one breaks, prints how many it took, and fails
if a fault was not found. Nothing in the tree is changed. A fault is a class or function that
replaces one of the model's, in this process, during a `with` block.
"""

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy, deepcopy
from dataclasses import replace
from unittest.mock import patch

from sealane.driver.device.rx import Device
from sealane.driver.model.device import ModelTransport
from sealane.driver.model.engine import Commit
from sealane.driver.model.walker import (
    commands as walker_commands,
)
from sealane.driver.model.walker import (
    core as walker_core,
)
from sealane.driver.model.walker import (
    tracking as walker_proven,
)
from sealane.driver.model.walker import (
    walk as walker,
)
from sealane.driver.model.walker.core import Core
from sealane.driver.model.walker.coverage import Coverage
from sealane.driver.model.walker.row import Row, TrackerState
from sealane.driver.model.walker.walk import Walk
from sealane.driver.net.seq import distance
from tests.trials.brute_force.trial import CONFIGS, run_trial

_run, _continues, _match_candidate, _feed = (
    Walk.run,
    walker_proven.continues,
    walker_proven._match_candidate,
    walker_proven._feed,
)
_adopt, _open_last, _rekey = walker_proven.adopt, walker_proven._open_last, walker_commands.rekey
_withholds, _evict, _go_on = Row.withholds, Core.evict, Commit.go_on


# --- the row's records and holes ------------------------------------------------------------------


class FirstHole(Coverage):
    """Of several holes that a segment overlaps only the first is fed."""

    def find(self, seq, end):
        fed = vars(self).setdefault("fed", [])
        found = None if fed else super().find(seq, end)
        fed += [found] if found else []
        return found


class LastHole(Coverage):
    """Of several holes that a segment overlaps only the last is fed."""

    def find(self, seq, end):
        fed = vars(self).setdefault("fed", [])
        inside = [
            hole
            for hole in self.row.holes
            if hole and not fed and distance(hole.start, end) < 0 and distance(hole.end, seq) > 0
        ]
        found = max(inside, key=lambda h: distance(h.start, seq), default=None)
        fed += [found] if found else []
        return found


class OnlyAtHoleEdge(Coverage):
    """A segment that begins before a hole does not fill it."""

    def find(self, seq, end):
        found = super().find(seq, end)
        return None if found and distance(seq, found.start) < 0 else found


class NotSplit(Coverage):
    """Bytes from the middle of a hole: the part after them counts as seen."""

    def cut(self, hole, start, end):
        whole = hole.start == start or hole.end == end
        return super().cut(hole, start, end if whole else hole.end)


class NotSplitFront(Coverage):
    """Bytes from the middle of a hole: the part before them counts as seen."""

    def cut(self, hole, start, end):
        whole = hole.start == start or hole.end == end
        return super().cut(hole, start if whole else hole.start, end)


class AsIfFed(Coverage):
    """An open record of which bytes passed unfed may still get a verdict."""

    def drop_verdict(self, index):
        pass


def evicts_another(self, *given, **named):
    """With full slots the record closed is not the one that the rules name, if there is another."""
    slots = self.row.slots
    before = copy(slots)
    trial = Core(self.config, deepcopy(self.row), self.seq)
    _evict(trial, *given, **named)
    kept = next(i for i, slot in enumerate(trial.row.slots) if before[i] and not slot)
    others = [i for i, slot in enumerate(before) if slot and i != kept]
    if others:
        slots[kept] = None
    _evict(self, *given, **named)
    slots[kept] = before[kept] if others else None


# --- the walk -------------------------------------------------------------------------------------


def nothing_suspect(self, content_type, length, end):
    """A record closed without a verdict holds nothing back."""


def nothing_withheld(core):
    """A short record without a verdict, which could be a KeyUpdate, holds nothing back."""


def long_enough(self, config, content_type, length):
    """A record as long as a KeyUpdate could not be one."""
    config = replace(config, park_hold_len=config.park_hold_len - 1)
    return _withholds(self, config, content_type, length)


def hold_lost(self):
    """The bytes of a header that a segment's end cuts off are forgotten."""
    out = _run(self)
    self._core.row.part_header = b""
    return out


def candidate_hold_lost(self):
    """The same for the candidate chain's headers."""
    out = _run(self)
    self._core.row.cand_part_header = b""
    return out


def nonce_gap(core):
    """A header whose nonce is missing loses the position."""
    return (distance(core.seq, core.row.high) <= 0 or not core.row.part_header) and _continues(core)


def passed_by(core):
    """A walk that passes the candidate's header inside a segment does not arrive at it."""
    if core.row.next_record_seq != core.row.candidate_seq:
        core.number_at_candidate = None
    _match_candidate(core)


def unspoiled(core, index, slot, start, end):
    """Packets of a record that has an unmarked packet are marked."""
    slot.has_unmarked = False
    _feed(core, index, slot, start, end)


# --- the candidate is proven ----------------------------------------------------------------------


def not_blind(core):
    """The record in progress when a position is proven gets a verdict."""
    _open_last(core)
    for slot in core.row.slots:
        if slot:
            slot.no_verdict = False


def no_last(core):
    """The record in progress when a position is proven stays closed."""


def adopt_one_more(core, number, by):
    """The record after the candidate's chain is counted twice."""
    return _adopt(core, number + 1, by)


def adopt_without_hole(core, number, by):
    """Bytes of an open record that the candidate chain passed count as fed."""
    core.row.high = core.row.cand_high
    return _adopt(core, number, by)


def adopt_trusting(core, number, by):
    """Records that only the candidate's chain passed hold nothing back."""
    core.row.cand_barrier_end = None
    return _adopt(core, number, by)


# --- commands, and feedback of a tag --------------------------------------------------------------


def believes_for_ever(self, seq):
    """A record that holds back marks is not forgotten after software has read it."""


def nothing_below(self):
    """A resync closes nothing that was marked before."""


def rekey_keeping(config, row, generation, epoch, seq, base):
    """Records that were open under the old key stay open."""
    slots, holes = row.slots, row.holes
    _rekey(config, row, generation, epoch, seq, base)
    if row.state is not TrackerState.START:
        row.slots, row.holes = slots, holes


def still_in_sync(row):
    """A bad tag is no reason to doubt the position."""


def any_go_on(self, context, generation, park):
    """A go-on ends all parks, whichever it names."""
    _go_on(self, context, generation, self.rows[context].awaited)


MUTANTS = {
    "first hole": (walker_core, "Coverage", FirstHole),
    "last hole": (walker_core, "Coverage", LastHole),
    "hole's edge": (walker_core, "Coverage", OnlyAtHoleEdge),
    "not split": (walker_core, "Coverage", NotSplit),
    "not split, front": (walker_core, "Coverage", NotSplitFront),
    "nothing suspect": (Core, "set_barrier", nothing_suspect),
    "nothing withheld": (walker, "_hold_behind_unverified", nothing_withheld),
    "not blind": (walker_proven, "_open_last", not_blind),
    "no last record": (walker_proven, "_open_last", no_last),
    "hold lost": (Walk, "run", hold_lost),
    "candidate's hold lost": (Walk, "run", candidate_hold_lost),
    "nonce gap": (walker_proven, "continues", nonce_gap),
    "passed by": (walker_proven, "_match_candidate", passed_by),
    "evicts another": (Core, "evict", evicts_another),
    "not spoiled": (walker_proven, "_feed", unspoiled),
    "as if fed": (walker_core, "Coverage", AsIfFed),
    "count": (walker_proven, "adopt", adopt_one_more),
    "no hole at a proof": (walker_proven, "adopt", adopt_without_hole),
    "candidate's suspicion": (walker_proven, "adopt", adopt_trusting),
    "suspicion stays": (Row, "clear_barrier", believes_for_ever),
    "R2": (Row, "close_below", nothing_below),
    "long enough": (Row, "withholds", long_enough),
    "old records stay": (walker_commands, "rekey", rekey_keeping),
    "bad tags": (walker_commands, "desync", still_in_sync),
    "any go-on": (Commit, "go_on", any_go_on),
}


@contextmanager
def mutant(name: str) -> Iterator[None]:
    """The model has the fault during the block."""
    with patch.object(*MUTANTS[name]):
        yield


def first_finding(name: str, seeds, plan: str | None = None) -> tuple[int, str] | None:
    """Number of trials of `seeds` until one breaks, and its message. plan: of all trials."""
    with mutant(name):
        for count, seed in enumerate(seeds, 1):
            config = list(CONFIGS.values())[seed % len(CONFIGS)]
            device = Device(ModelTransport(config), config)
            try:
                broken = run_trial(device, config, seed, plan).breaks
            except AssertionError as error:  # the model's own
                broken = [f"seed {seed}: {error!r}"]
            if broken:
                return count, broken[0]
    return None


def main(argv=None) -> int:
    """Runs the command. The exit status is 1 if a fault was not found."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0, help="seed of the first trial")
    parser.add_argument("--mutant", choices=MUTANTS, action="append")
    options = parser.parse_args(argv)
    missed = 0
    for name in options.mutant or MUTANTS:
        found = first_finding(name, range(options.seed, options.seed + options.trials))
        missed += not found
        print(f"{name:22} {f'{found[0]:5} {found[1]}' if found else ' none'}", flush=True)
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
