# SPDX-License-Identifier: Apache-2.0
"""The short form of the divergence test, and for each rule the attack that it stops."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from sealane.driver.device import Device
from sealane.driver.ktls import RecordRefused
from sealane.driver.model.device import ModelTransport
from sealane.hdl.abi.config import VERSION_TLS12, VERSION_TLS13, Config

from tests.divergence import trial
from tests.divergence_host import Break, Habits, Host
from tests.divergence_plan import Sent, Step
from tests.divergence_switches import receiver, without

CONFIG = Config(flows=4, record_slots=3, runs=4)


@pytest.fixture
def rules():
    """A function that takes one rule away until the test ends."""
    yield without
    without(None)


@pytest.mark.parametrize("block", range(8))
def test_nothing_forged_and_nothing_lost(block):
    counts: Counter[str] = Counter()
    for seed in range(block * 100, block * 100 + 100):
        counts += trial(seed)
    # The trials are worth something only if records end in every way.
    assert min(counts[how] for how in ("full", "partial", "none", "refused", "undone")) > 0


class Victim(Host):
    """Two records, 40 and 100 bytes of application data, and a driver that reacts at once."""

    def __init__(self, version: int, keep_last: bool, rule: str | None = None) -> None:
        stream = Sent(version)
        stream.add(bytes(40))
        self.record = stream.add(bytes(100))
        self.cut = self.record.offset + 60
        device = Device(ModelTransport(CONFIG), CONFIG)
        habits = Habits(keep_last=keep_last)
        super().__init__(device, stream, random.Random(0), habits, receiver(rule))

    def wire(self, low: int, high: int, card: bool = True, host: bool = True):
        """The stream's bytes [low, high)."""
        return self.step(Step("packet", low, self.stream.wire[low:high], card, host))

    def forged(self, card: bool = True, host: bool = True):
        """The beginning of the second record, with one bit of its text changed."""
        payload = bytearray(self.stream.wire[self.record.offset : self.cut])
        payload[-1] ^= 1
        return self.step(Step("packet", self.record.offset, bytes(payload), card, host))


def reopened(victim: Victim) -> None:
    """R1. The card alone sees a record's beginning and completes it; its verdict stands in the
    packet with the rest, which TCP gets too. Then another beginning comes."""
    start, cut, end = victim.record.offset, victim.cut, victim.record.end
    victim.wire(0, start)
    victim.wire(start, cut, host=False)
    assert victim.wire(cut, end).meta.last_completes
    victim.forged()


def reopened_after_eviction(victim: Victim) -> None:
    """R1. TCP gets the forged beginning first, marked; other records push the record out of its
    slot; then the card alone sees the true beginning."""
    start, cut, end = victim.record.offset, victim.cut, victim.record.end
    victim.wire(0, start)
    assert victim.forged().marked
    for i in range(CONFIG.record_slots):
        header = b"\x17\3\3\0\x64" + bytes(20)
        victim.step(Step("packet", end + 105 * i, header, True, False))
    victim.wire(start, cut, host=False)
    victim.wire(cut, end)


def found_again(victim: Victim) -> None:
    """R2. As for R1, but the card is made to search, finds the record in front and is answered,
    truly, and so its walk comes by once more."""
    start, cut, end = victim.record.offset, victim.cut, victim.record.end
    victim.wire(0, start)
    victim.wire(start, cut, host=False)
    assert victim.wire(cut, end).meta.last_completes
    victim.step(Step("packet", end, bytes(20), True, False))
    victim.wire(0, start)
    victim.forged()


def two_generations(victim: Victim) -> None:
    """H. TCP holds a forged beginning that was marked; the context is added anew, and in the new
    generation the record verifies with a beginning that the card alone sees."""
    start, cut, end = victim.record.offset, victim.cut, victim.record.end
    victim.wire(0, start, host=False)
    assert victim.forged().marked
    victim.step(Step("readd"))
    victim.wire(0, start)
    victim.wire(start, cut, host=False)
    assert victim.wire(cut, end).meta.last_completes


ATTACKS = {
    reopened: "R1",
    reopened_after_eviction: "R1",
    found_again: "R2",
    two_generations: "H",
}


@pytest.mark.parametrize("version", [VERSION_TLS12, VERSION_TLS13])
@pytest.mark.parametrize("keep_last", [False, True])
@pytest.mark.parametrize("attack", ATTACKS)
def test_the_rule_stops_the_attack(attack, keep_last, version):
    victim = Victim(version, keep_last)
    attack(victim)
    victim.judge()
    assert len(victim.records) == 1
    assert isinstance(victim.refused, RecordRefused)
    assert victim.refused.alert == "bad_record_mac"


@pytest.mark.parametrize("version", [VERSION_TLS12, VERSION_TLS13])
@pytest.mark.parametrize("keep_last", [False, True])
@pytest.mark.parametrize("attack", ATTACKS)
def test_without_the_rule_the_attack_succeeds(attack, keep_last, version, rules):
    rules(ATTACKS[attack])
    with pytest.raises(Break) as broken:
        attack(Victim(version, keep_last, ATTACKS[attack]))
    assert broken.value.kind == "forged"


@pytest.mark.parametrize("rule", ["R1", "R2", "H"])
def test_random_trials_find_that_a_rule_is_missing(rule, rules):
    rules(rule)
    with pytest.raises(Break):
        for seed in range(3000):
            trial(seed, kind=receiver(rule))
