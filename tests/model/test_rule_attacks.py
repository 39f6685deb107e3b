# SPDX-License-Identifier: Apache-2.0
"""The attacks on R3, R4, positions and key changes from the theory of operation.

Those on R1, R2 and H, with the rule and without it, are in
`tests/trials/divergence/test_divergence.py`. Keys are constants and protect nothing.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from sealane.driver.ktls.rx.events import How, RecordRefused
from sealane.hdl.abi.commands import Option
from sealane.hdl.abi.config import VERSION_TLS12, VERSION_TLS13
from sealane.hdl.abi.meta import Reason
from tests.support.card import model_device
from tests.support.marking_device import Stream
from tests.support.scenarios.man_in_the_middle import Victim as Peer
from tests.support.sealed_streams import KEY_UPDATE
from tests.trials.divergence.attacks import Step
from tests.trials.divergence.victim import Victim

VERSIONS = (VERSION_TLS12, VERSION_TLS13)


def refused(victim) -> bool:
    """The attacked record was refused, as software alone would have refused it."""
    victim.judge()
    assert len(victim.records) == len(victim.front)
    assert isinstance(victim.refused, RecordRefused)
    return victim.refused.alert == "bad_record_mac"


def add(victim: Victim, size: int):
    """One more record after those that the stream has, before anything of it was sent."""
    record = victim.stream.add(bytes(size))
    victim._places[record.offset] = record
    return record


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("keep_last", [False, True])
def test_bytes_that_passed_are_not_marked_again(keep_last, version):
    """R3. The card alone sees the true beginning, then all see another one, then the rest."""
    victim = Victim(version, keep_last)
    start, cut, end = victim.record.offset, victim.cut, victim.record.end
    victim.wire(0, start)
    assert victim.wire(start, cut, host=False).marked
    assert victim.forged().meta.reason == Reason.SEEN_BYTES
    assert victim.wire(cut, end).meta.last_completes
    assert refused(victim)


@pytest.mark.parametrize("version", VERSIONS)
def test_what_an_unmarked_packet_fed_is_seen(version):
    """R4. An unmarked packet feeds the true beginning, because its first byte came before.

    The forged one must not be fed or marked in its place. The flow has MARK_REST, so that the rest
    of such a record is marked.
    """
    victim = Victim(version, False)
    victim.habits = replace(victim.habits, options=Option.MARK_REST)
    victim.step(Step("readd"))
    start, cut, end = victim.record.offset, victim.cut, victim.record.end
    victim.wire(0, start)
    assert victim.wire(start - 1, cut, host=False).meta.reason == Reason.NOT_OPEN
    assert victim.forged().meta.reason == Reason.SEEN_BYTES
    assert victim.wire(cut, end).meta.last_completes
    assert refused(victim)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_packet_in_which_a_forged_record_completes_is_untouched(version):
    """R3. A changed beginning is marked, because nothing can be known of it yet.

    The packet with the rest is not marked, and after it nothing counts as proven (R4).
    """
    victim = Victim(version, False)
    start, cut, end = victim.record.offset, victim.cut, victim.record.end
    last = add(victim, 100)
    victim.wire(0, start)
    assert victim.forged().marked
    assert victim.wire(cut, end).meta.reason == Reason.TAG_MISMATCH
    assert victim.wire(end, last.end).meta.reason == Reason.AWAITING_PROOF
    assert refused(victim)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_packet_with_a_bad_checksum_feeds_nothing(version):
    """R4. TCP drops it.

    Had the card fed it, the true bytes would count as seen and the true record as forged.
    """
    victim = Victim(version, False)
    start, cut, end = victim.record.offset, victim.cut, victim.record.end
    victim.wire(0, start)
    payload = bytes(b ^ 1 for b in victim.stream.wire[start:cut])
    spoiled = victim.step(Step("packet", start, payload, bad=True))
    assert spoiled.meta.reason == Reason.BAD_CHECKSUM
    assert victim.wire(start, cut).marked
    assert victim.wire(cut, end).meta.last_completes
    victim.judge()
    assert [record.how for record in victim.records] == [How.FULL] * (len(victim.front) + 1)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_replayed_record_is_a_candidate_and_no_more(version):
    """Position. While the card searches it alone is shown a sealed record at another place.

    More headers follow the record. Its tag is good under its own number. Nothing is marked.
    """
    victim = Victim(version, False)
    first, start, end = victim.stream.records[0], victim.record.offset, victim.record.end
    add(victim, 300)
    last = add(victim, 300)
    victim.wire(0, start)
    at = end + 50  # the header at `end` is lost, and the shown record is in mid-record
    shown = victim.step(Step("packet", at, 2 * first.wire, True, False))
    assert shown.meta.reason == Reason.AWAITING_PROOF
    behind = at + 2 * len(first.wire)
    assert victim.wire(behind, behind + 20).meta.reason in (Reason.AWAITING_PROOF, Reason.SEARCHING)
    victim.wire(start, end)
    victim.wire(end, at)
    victim.wire(at, behind, card=False)  # the true bytes, which TCP gets
    victim.wire(behind + 20, last.end)
    victim.judge()
    assert victim.refused is None and len(victim.records) == len(victim.front) + 3
    assert victim.records[-2].how is not How.FULL


def stopped_at(peer: Peer, number: int) -> bool:
    """Records before `number` were accepted, and it was not."""
    return peer.rx.closed and [r.number for r in peer.records] == list(range(number))


def updated_with_the_old_key(padding: int) -> tuple[Peer, list]:
    """Data, a KeyUpdate, and a record that is sealed with the old key all the same."""
    stream = Stream(VERSION_TLS13)
    stream.add(bytes(100))
    stream.add(KEY_UPDATE, 22, padding)
    stream.add(bytes(100))
    return Peer(stream, model_device()), stream.records


def test_nothing_is_marked_behind_a_key_update_that_was_read():
    """Park. The record after it has a good tag under the card's key."""
    peer, (_, update, old) = updated_with_the_old_key(0)
    wire = peer.stream.wire
    peer.packet(0, wire[: update.end], True, True)
    assert peer.packets[0].marked
    peer.packet(update.end, wire[update.end : old.end], True, True)
    assert not peer.packets[1].marked
    assert stopped_at(peer, 2)


def test_nothing_is_marked_behind_a_record_that_may_be_a_key_update():
    """Held. A byte of the KeyUpdate is late. The record after it would verify."""
    peer, (_, update, old) = updated_with_the_old_key(0)
    wire, hole = peer.stream.wire, update.offset + 10
    peer.packet(0, wire[:hole], True, True)
    peer.packet(hole + 1, wire[hole + 1 : old.end], True, True)
    assert peer.packets[1].meta.reason == Reason.HELD
    peer.packet(hole, wire[hole : hole + 1], True, True)
    assert stopped_at(peer, 2)


def test_a_key_update_in_disguise_is_overtaken_and_the_mark_undone():
    """H. The padded KeyUpdate does not look like one.

    Packets marked after it, with a good verdict, have the old epoch. The host does not.
    """
    peer, (_, update, old) = updated_with_the_old_key(60)
    wire, hole = peer.stream.wire, update.offset + 10
    peer.packet(0, wire[:hole], True, True)
    peer.packet(hole + 1, wire[hole + 1 : old.end], True, True)
    overtaken = peer.packets[1]
    assert overtaken.marked and overtaken.meta.last_completes
    peer.packet(hole, wire[hole : hole + 1], True, True)
    assert stopped_at(peer, 2)
    assert peer.rx.counters.marks_undone == 1
