# SPDX-License-Identifier: Apache-2.0
"""Walkers with one fault each, to see that `tests.brute_force` would notice.

    python -m tests.brute_force_mutants --trials 2000

runs the trials 0, 1, ... on each faulty model until one breaks, prints how many it took, and
fails if a fault was not found. Nothing in the tree is changed: a fault is a subclass of `Walk` or
a function put in place of one of the model's, in this process, for the time of a `with` block.
"""

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy, deepcopy
from dataclasses import replace
from unittest.mock import patch

from sealane.driver.device import Device
from sealane.driver.model import walker
from sealane.driver.model.device import ModelTransport
from sealane.driver.model.engine import Commit

from tests.brute_force import CONFIGS, run_trial

_Walk, _adopt, _rekey, _withholds = walker.Walk, walker.adopt, walker.rekey, walker.withholds
_go_on = Commit.go_on


class FirstHole(_Walk):
    """Of several holes that a segment overlaps the first alone is fed."""

    def _first_hole(self):
        fed = vars(self).setdefault("fed", [])
        found = None if fed else super()._first_hole()
        fed += [found] if found else []
        return found


class LastHole(_Walk):
    """Of several holes that a segment overlaps the last alone is fed."""

    def _first_hole(self):
        fed = vars(self).setdefault("fed", [])
        inside = [hole for hole in self.row.holes if hole and not fed
                  and walker.delta(hole.start, self.end) < 0
                  and walker.delta(hole.end, self.seq) > 0]
        found = max(inside, key=lambda h: walker.delta(h.start, self.seq), default=None)
        fed += [found] if found else []
        return found


class OnlyAtHoleEdge(_Walk):
    """A segment that begins in front of a hole does not fill it."""

    def _first_hole(self):
        found = super()._first_hole()
        return None if found and walker.delta(self.seq, found.start) < 0 else found


class NotSplit(_Walk):
    """Bytes out of the middle of a hole: the part behind them counts as seen."""

    def _cut_hole(self, hole, start, end):
        whole = hole.start == start or hole.end == end
        return super()._cut_hole(hole, start, end if whole else hole.end)


class NotSplitFront(_Walk):
    """Bytes out of the middle of a hole: the part in front of them counts as seen."""

    def _cut_hole(self, hole, start, end):
        whole = hole.start == start or hole.end == end
        return super()._cut_hole(hole, start if whole else hole.start, end)


class NothingSuspect(_Walk):
    """A record closed without a verdict holds nothing back."""

    def _suspect(self, content_type, length, end):
        pass


class NothingWithheld(_Walk):
    """A short record without a verdict, which could be a KeyUpdate, holds nothing back."""

    def _hold_behind_unverified(self):
        pass


class NotBlind(_Walk):
    """The record under way when a position is proven gets a verdict."""

    def open_last(self):
        super().open_last()
        for slot in self.row.slots:
            if slot:
                slot.blind = False


class NoLast(_Walk):
    """The record under way when a position is proven stays closed."""

    def open_last(self):
        pass


class HoldLost(_Walk):
    """The bytes of a header that a segment's end cuts off are forgotten."""

    def run(self):
        out = super().run()
        self.row.hold = b""
        return out


class CandidateHoldLost(_Walk):
    """The same for the candidate's headers."""

    def run(self):
        out = super().run()
        self.row.cand_hold = b""
        return out


class NonceGap(_Walk):
    """A header whose nonce is missing loses the position."""

    def _continues_proven(self):
        return walker.delta(self.seq, self.row.high) <= 0 and super()._continues_proven() or (
            not self.row.hold and super()._continues_proven()
        )


class PassedBy(_Walk):
    """A walk that passes the candidate's header inside a segment does not arrive at it."""

    def _join(self):
        if self.row.walk != self.row.guess:
            self._number_at_guess = None
        super()._join()


class Unspoiled(_Walk):
    """Packets of a record of which one was not marked are marked."""

    def _feed(self, index, slot, start, end):
        slot.spoiled = False
        super()._feed(index, slot, start, end)


class AsIfFed(_Walk):
    """What passed unfed of a record that is open does not blind it."""

    def _passed_unfed(self, index):
        pass


class EvictsAnother(_Walk):
    """With full slots another record is closed than the rules say, if there is one."""

    def _evict(self, *given, **named):
        before = copy(self.row.slots)
        trial = type(self).__mro__[1](self.config, deepcopy(self.row), self.seq, b"")
        trial._evict(*given, **named)
        kept = next(i for i, slot in enumerate(trial.row.slots) if before[i] and not slot)
        others = [i for i, slot in enumerate(before) if slot and i != kept]
        if others:
            self.row.slots[kept] = None
        super()._evict(*given, **named)
        self.row.slots[kept] = before[kept] if others else None


def adopt_one_more(walk, number, by):
    """The record behind the candidate's chain is counted twice."""
    return _adopt(walk, number + 1, by)


def adopt_without_hole(walk, number, by):
    """What the candidate passed of an open record counts as fed."""
    walk.row.high = walk.row.cand_high
    return _adopt(walk, number, by)


def adopt_trusting(walk, number, by):
    """Records that only the candidate's chain passed hold nothing back."""
    walk.row.cand_suspect_end = None
    return _adopt(walk, number, by)


def believes_for_ever(row, seq):
    """What holds marks back is not forgotten when software has read it."""


def nothing_below(row):
    """A position given anew closes nothing that was marked before."""


def rekey_keeping(config, row, generation, epoch, seq, base):
    """Records that were open under the old key stay open."""
    slots, holes = row.slots, row.holes
    _rekey(config, row, generation, epoch, seq, base)
    if row.state is not walker.State.START:
        row.slots, row.holes = slots, holes


def still_in_sync(row):
    """A bad tag is no reason to doubt the position."""


def any_go_on(self, context, generation, park):
    """A go-on ends all parks, whatever it names."""
    _go_on(self, context, generation, self.rows[context].awaited)


def long_enough(config, row, content_type, length):
    """A record as long as a KeyUpdate could not be one."""
    config = replace(config, park_hold_len=config.park_hold_len - 1)
    return _withholds(config, row, content_type, length)


MUTANTS = {
    "first hole": (walker, "Walk", FirstHole),
    "last hole": (walker, "Walk", LastHole),
    "hole's edge": (walker, "Walk", OnlyAtHoleEdge),
    "not split": (walker, "Walk", NotSplit),
    "not split, front": (walker, "Walk", NotSplitFront),
    "nothing suspect": (walker, "Walk", NothingSuspect),
    "nothing withheld": (walker, "Walk", NothingWithheld),
    "not blind": (walker, "Walk", NotBlind),
    "no last record": (walker, "Walk", NoLast),
    "hold lost": (walker, "Walk", HoldLost),
    "candidate's hold lost": (walker, "Walk", CandidateHoldLost),
    "nonce gap": (walker, "Walk", NonceGap),
    "passed by": (walker, "Walk", PassedBy),
    "evicts another": (walker, "Walk", EvictsAnother),
    "not spoiled": (walker, "Walk", Unspoiled),
    "as if fed": (walker, "Walk", AsIfFed),
    "count": (walker, "adopt", adopt_one_more),
    "no hole at a proof": (walker, "adopt", adopt_without_hole),
    "candidate's suspicion": (walker, "adopt", adopt_trusting),
    "suspicion stays": (walker, "clear_suspicion", believes_for_ever),
    "R2": (walker, "close_below", nothing_below),
    "long enough": (walker, "withholds", long_enough),
    "old records stay": (walker, "rekey", rekey_keeping),
    "bad tags": (walker, "desync", still_in_sync),
    "any go-on": (Commit, "go_on", any_go_on),
}


@contextmanager
def mutant(name: str) -> Iterator[None]:
    """The model has the fault inside the block."""
    with patch.object(*MUTANTS[name]):
        yield


def first_finding(name: str, seeds, plan: str | None = None) -> tuple[int, str] | None:
    """How many of the trials `seeds` it takes until one breaks, and what it says. plan: of all."""
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
    """The command; exit status 1 if a fault was not found."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0, help="of the first trial")
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
