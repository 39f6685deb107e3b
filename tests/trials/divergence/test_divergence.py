# SPDX-License-Identifier: Apache-2.0
"""The short form of the divergence test, and for each rule the attack that it stops."""

from __future__ import annotations

import random
from collections import Counter
from itertools import pairwise

import pytest

from sealane.driver.device.rx import Device
from sealane.driver.ktls.rx.events import How, RecordRefused
from sealane.driver.model.device import ModelTransport
from sealane.hdl.abi.commands import Option
from sealane.hdl.abi.config import TAG_BYTES, VERSION_TLS12, VERSION_TLS13, header_bytes
from tests.support.marking_device import seal
from tests.support.sealed_streams import KEY_UPDATE
from tests.trials.divergence.attacks import Step
from tests.trials.divergence.host import Break, Habits, Host
from tests.trials.divergence.plan import Sent
from tests.trials.divergence.switches import receiver, without
from tests.trials.divergence.trial import trial
from tests.trials.divergence.victim import CONFIG, Victim


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
    # The trials only test something if records end in every way.
    assert min(counts[how] for how in ("full", "partial", "none", "refused", "undone")) > 0


def reopened(victim: Victim) -> None:
    """R1. The card alone sees a record's beginning and completes it.

    Its verdict is in the packet with the rest, which TCP gets too. Then another beginning comes.
    """
    start, cut, end = victim.record.offset, victim.cut, victim.record.end
    victim.wire(0, start)
    victim.wire(start, cut, host=False)
    assert victim.wire(cut, end).meta.last_completes
    victim.forged()


def reopened_after_eviction(victim: Victim) -> None:
    """R1. TCP gets the forged beginning first, marked.

    The records before it are not complete, so others push the record out of its slot, whichever
    goes first. Then the card alone sees the true beginning.
    """
    start, cut, end = victim.record.offset, victim.cut, victim.record.end
    for record in victim.front:
        victim.wire(record.offset, record.end - 5)
        victim.wire(record.end - 5, record.end, card=False)
    assert victim.forged().marked
    for i in range(CONFIG.record_slots):
        header = b"\x17\3\3\0\x64" + bytes(20)
        victim.step(Step("packet", end + 105 * i, header, True, False))
    victim.wire(start, cut, host=False)
    victim.wire(cut, end)


def found_again(victim: Victim) -> None:
    """R2. As for R1, but the card is made to search and the walk passes once more.

    The card finds the record before and is answered truly.
    """
    start, cut, end = victim.record.offset, victim.cut, victim.record.end
    victim.wire(0, start)
    victim.wire(start, cut, host=False)
    assert victim.wire(cut, end).meta.last_completes
    victim.step(Step("packet", end, bytes(20), True, False))
    victim.wire(0, start)
    victim.forged()


def two_generations(victim: Victim) -> None:
    """H. TCP holds a forged beginning that was marked, and the context is added anew.

    In the new generation the record verifies with a beginning that the card alone sees.
    """
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
    assert len(victim.records) == len(victim.front)
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


def numbers_shifted(rule: str | None = None) -> Host:
    """With a header missing the card alone finds a captured record with the number it guesses.

    The record ends where the next true record begins. At that place there is, for TCP too, the
    record that was sent after the captured one.
    """
    stream = Sent(VERSION_TLS13)
    sizes = (40, 200, 60, 80)
    front, hidden, captured, behind = (stream.add(bytes(size)) for size in sizes)
    habits = Habits(options=Option.TAG_PROOF)
    device = Device(ModelTransport(CONFIG), CONFIG)
    host = Host(device, stream, random.Random(0), habits, receiver(rule))
    host.step(Step("packet", 0, front.wire))
    host.step(Step("packet", hidden.offset, hidden.wire, card=False))
    host.step(Step("packet", hidden.end - len(captured.wire), captured.wire, host=False))
    assert host.step(Step("packet", hidden.end, behind.wire)).meta.last_number == behind.number
    return host


def test_a_record_at_the_place_of_another_is_not_accepted():
    host = numbers_shifted()
    host.judge()
    assert len(host.records) == 2 and host.refused.alert == "bad_record_mac"


def test_a_host_that_does_not_compare_numbers_accepts_it():
    with pytest.raises(Break) as broken:
        numbers_shifted("number")
    assert broken.value.kind == "forged"


def overtaken(rule: str | None = None) -> Host:
    """A record after a partly late KeyUpdate is marked under the old key.

    It waits in kTLS, with its last bytes missing, when the device gets the new key.
    """
    stream = Sent(VERSION_TLS13)
    stream.add(bytes(40))
    update = stream.add(KEY_UPDATE, 22, padding=60)
    stream.next_epoch()
    data = stream.add(bytes(200))
    device = Device(ModelTransport(CONFIG), CONFIG)
    host = Host(device, stream, random.Random(0), Habits(knows_keys=True), receiver(rule))

    def wire(low: int, high: int):
        return host.step(Step("packet", low, stream.wire[low:high]))

    wire(0, update.offset)
    wire(update.offset, update.end - 10)
    for low, high in [(0, 50), (50, 150)]:
        packet = wire(data.offset + low, data.offset + high)
        assert packet.marked and packet.meta.epoch == 0
    wire(update.end - 10, update.end)
    assert host.rx.handle.generation != packet.meta.generation
    wire(data.offset + 150, data.end)
    return host


def test_marks_under_the_old_key_are_undone_with_it():
    host = overtaken()
    host.judge()
    assert len(host.records) == 3 and not host.refused
    assert host.records[-1].how is How.PARTIAL and host.rx.counters.marks_undone == 2


def test_a_host_that_gives_the_old_key_up_loses_the_connection():
    host = overtaken("old-keys")
    assert host.refused.alert == "internal_error"
    with pytest.raises(Break) as broken:
        host.judge()
    assert broken.value.kind == "lost"


def searching(version: int, options: Option, embed: bool, number: int) -> Host:
    """The header of the second of four records is late, and the card finds a false sealed record.

    The peer has embedded it, or it was captured and is shown to the card alone. A header after it
    leads on to where a true record begins.
    """
    stream = Sent(version)
    stream.add(bytes(40))
    tail = TAG_BYTES + (version == VERSION_TLS13)
    bridge = b"\x17\3\3" + (60 + tail).to_bytes(2, "big")
    false = seal(stream.keys(0), number, 23, bytes(30))[0] + bridge
    if embed:
        stream.embed(false + bytes(60))
    else:
        stream.add(bytes(len(false) + 60))
    hidden = stream.records[-1]
    for size in (120, 300):
        stream.add(bytes(size))
    device = Device(ModelTransport(CONFIG), CONFIG)
    host = Host(device, stream, random.Random(0), Habits(options=options))
    text, end = hidden.offset + header_bytes(version), len(stream.wire)

    def wire(low: int, high: int):
        host.step(Step("packet", low, stream.wire[low:high]))

    wire(0, hidden.offset)
    if embed:
        wire(text, hidden.end)
    else:
        host.step(Step("packet", text, false, True, False))
    for low in range(hidden.end, end - 90, 90):
        wire(low, low + 90)
    wire(hidden.offset, hidden.end)
    host.finish()
    return host


@pytest.mark.parametrize("rule", [None, "position"])
@pytest.mark.parametrize("options", [Option.NONE, Option.TAG_PROOF, ~Option.ONE_BIT])
@pytest.mark.parametrize("version", [VERSION_TLS12, VERSION_TLS13])
@pytest.mark.parametrize("embed", [False, True], ids=["replayed", "embedded"])
@pytest.mark.parametrize("number", [1, 2])
def test_a_sealed_record_at_another_position_is_not_believed(
    number, embed, version, options, rule, rules
):
    rules(rule)
    host = searching(version, options, embed, number)
    host.judge()
    assert len(host.records) == 4 and not host.refused
    assert host.rx.counters.marks_undone or rule is None


@pytest.mark.parametrize("version", [VERSION_TLS12, VERSION_TLS13])
def test_the_walk_arrives_at_a_candidate_that_begins_alike_and_leads_elsewhere(version):
    """The card alone sees the header after the lost one with another length.

    Then the walk passes the true one.
    """
    stream = Sent(version)
    first, lost, data, _ = (stream.add(bytes(size)) for size in (40, 10, 80, 60))
    device = Device(ModelTransport(CONFIG), CONFIG)
    host = Host(device, stream, random.Random(0), Habits())
    cuts = [0, first.end - 10, lost.offset + 2, data.offset + 30, data.end + 20, len(stream.wire)]
    true = [Step("packet", a, stream.wire[a:b]) for a, b in pairwise(cuts)]
    false = bytearray(true[2].payload)
    at = data.offset - cuts[2]
    false[at + 3 : at + 5] = (217).to_bytes(2, "big")
    for step in [true[0], Step("packet", cuts[2], bytes(false), True, False), *true[1:]]:
        host.step(step)
    host.judge()
    assert len(host.records) == 4 and not host.refused


def test_whatever_position_the_card_believes_in_the_host_undoes_what_is_wrong(rules):
    counts: dict[str | None, Counter[str]] = {}
    for rule in (None, "position"):
        rules(rule)
        counts[rule] = sum((trial(seed) for seed in range(150)), Counter())
    assert counts["position"]["undone"] > counts[None]["undone"]


@pytest.mark.parametrize("rule", ["R1", "R2", "H", "old-keys", "generation"])
def test_random_trials_find_that_a_rule_is_missing(rule, rules):
    rules(rule)
    with pytest.raises(Break):
        for seed in range(3000):
            trial(seed, kind=receiver(rule))
