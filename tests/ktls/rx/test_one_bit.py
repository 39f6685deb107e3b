# SPDX-License-Identifier: Apache-2.0
"""A host that knows one bit of a packet: what it gets, what it refuses and what remains exposed.

The attacker is that of `tests.trials.divergence.plan`. It is on the path, has no keys and knows all
plaintext. It decides for every packet whether card and TCP see it or only one of them. Keys are
fixed and protect nothing.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from functools import partial

import pytest

from sealane.driver.device.descriptors import Handle, RxMeta, RxPacket
from sealane.driver.ktls.rx.events import RecordAccepted, RecordRefused, Rekey
from sealane.driver.ktls.rx.offload import KtlsRx, StreamRange
from sealane.hdl.abi.commands import Option
from sealane.hdl.abi.config import VERSION_TLS12, VERSION_TLS13
from tests.support.marking_device import HANDLE, TICKET, TRUTH, Belief, ranges
from tests.support.sealed_streams import KEY_UPDATE
from tests.trials.divergence import trial as divergence
from tests.trials.divergence.host import Break, draw_habits
from tests.trials.divergence.one_bit import FORGED, Attacked, OneBitHost, Telling
from tests.trials.divergence.plan import Sent, Step

VERSIONS = (VERSION_TLS12, VERSION_TLS13)


# --- honest traffic ---------------------------------------------------------------------------


def transfer(seed: int, loss=0.0, reorder=0.0, changes=0.0, **kwargs) -> OneBitHost:
    """Sends 40 records through a host, which delivers what the sender sealed."""
    rng = random.Random(seed)
    stream = Sent(rng.choice(VERSIONS), seq=rng.choice((7, 0xFFFFFE00)))
    for _ in range(40):
        stream.add(rng.randbytes(rng.choice((0, 40, 800, 3000, 3000))))
        if stream.version == VERSION_TLS13 and rng.random() < changes:
            stream.add(TICKET, 22)
            stream.add(KEY_UPDATE, 22)
            stream.next_epoch()
    host = OneBitHost(stream, rng=rng, **kwargs)
    timed, low = [], 0
    while low < len(stream.wire):
        high = min(len(stream.wire), low + rng.choice((1448, 1448, 500)))
        delay = rng.randint(5, 30) if rng.random() < loss else 0
        delay += rng.randint(1, 8) + 0.5 if rng.random() < reorder else 0
        timed.append((len(timed) + delay, low, high))
        low = high
    for _, low, high in sorted(timed):
        host.wire(low, high)
    host.judge()
    assert len(host.records) == len(stream.records)
    return host


def test_in_order_every_record_skips_crypto():
    for seed in range(10):
        host = transfer(seed)
        assert host.hows == {"full": 40}
        assert host.rx.counters.aes_blocks == 0


@pytest.mark.parametrize("late", (0, 5))
def test_loss_reordering_and_key_changes_lose_nothing(late):
    hows: Counter[str] = Counter()
    for seed in range(20):
        hows += transfer(seed, loss=0.01, late=late).hows
    assert hows["full"] > 0.7 * hows.total()
    for seed in range(20):
        hows += transfer(seed, loss=0.03, reorder=0.1, changes=0.05, late=late).hows
    assert min(hows["full"], hows["partial"], hows["none"]) > 0


@pytest.mark.parametrize("version", VERSIONS)
def test_nothing_but_the_mark_is_looked_at(version):
    """Packets without framing, verdicts, generation or context have the same result."""
    stream = Sent(version)
    for i in range(5):
        stream.add(bytes([i]) * 700)
    for marks in ([TRUTH] * 9, [TRUTH, None, TRUTH, TRUTH, TRUTH, TRUTH, None, TRUTH, TRUTH]):
        rx = KtlsRx(stream.keys(0), stream.seq, handle=HANDLE, one_bit=True)
        events = []
        for piece in ranges(stream, range(400, 3600, 400), marks):
            meta = piece.packet.meta
            bare = RxMeta(
                decrypted=meta.decrypted,
                seq=meta.seq,
                payload_offset=meta.payload_offset,
                payload_length=meta.payload_length,
            )
            packet = RxPacket(piece.packet.frame, bare)
            events += rx.feed([StreamRange(piece.seq, piece.length, packet)])
        accepted = [e for e in events if isinstance(e, RecordAccepted)]
        assert b"".join(e.plaintext for e in accepted) == stream.app_data
        hows = [e.how.value for e in accepted]
        assert hows == (
            ["full"] * 5 if None not in marks else ["partial", "partial", "full", "partial", "full"]
        )


def test_random_trials_forge_nothing(monkeypatch):
    """The attacks of `tests.trials.divergence.trial`, none of which was made for such a host.

    Records may be lost: see `test_a_one_bit_host_may_end_a_connection_that_rule_h_keeps`.
    """

    def habits(rng, version):
        return replace(draw_habits(rng, version), options=Option.ONE_BIT)

    monkeypatch.setattr(divergence, "draw_habits", habits)
    monkeypatch.setattr(divergence, "Host", Telling)
    ends: Counter[str] = Counter()
    for seed in range(300):
        try:
            ends += divergence.trial(seed, kind=partial(KtlsRx, one_bit=True))
        except Break as broken:
            ends[broken.kind] += 1
    assert ends["forged"] == ends["error"] == 0
    assert ends["trials"] > 290
    assert min(ends["full"], ends["partial"], ends["none"], ends["refused"]) > 0


# --- refusals -----------------------------------------------------------------------------------


def shown_and_dropped(victim: Attacked) -> None:
    """The card alone sees a record's true beginning and marks it.

    It verifies the record with the rest, which TCP gets too. TCP gets another beginning.
    """
    start, end = victim.records_at[1:3]
    victim.wire(0, start)
    assert victim.wire(start, start + 100, host=False).marked
    assert victim.wire(start + 100, end).marked
    assert not victim.false(start, victim.changed(start, start + 100)).marked


def marked_before_it_fails(victim: Attacked) -> None:
    """A forged beginning is marked, as nothing is known of it yet. The rest is not marked."""
    start, end = victim.records_at[1:3]
    victim.wire(0, start)
    assert victim.false(start, victim.changed(start, start + 100)).marked
    assert not victim.wire(start + 100, end).marked


def replayed(victim: Attacked) -> None:
    """A sealed record again, in place of the next one and of the same size."""
    start, end = victim.records_at[1:3]
    victim.wire(0, start)
    assert not victim.false(start, victim.stream.records[0].wire[: end - start]).marked


def replayed_in_pieces(victim: Attacked) -> None:
    """The same, with its first piece marked before the tag is there."""
    start, end = victim.records_at[1:3]
    old = victim.stream.records[0].wire
    victim.wire(0, start)
    assert victim.false(start, old[:200]).marked
    assert not victim.false(start + 200, old[200 : end - start]).marked


def two_installations(victim: Attacked) -> None:
    """TCP holds a forged beginning that was marked, and the context is added anew.

    Now the record verifies with a beginning that the card alone sees.
    """
    start, end = victim.records_at[1:3]
    victim.wire(0, start, host=False)
    assert victim.false(start, victim.changed(start, start + 100)).marked
    victim.step(Step("readd"))
    victim.wire(0, start)
    victim.wire(start, start + 100, host=False)
    assert victim.wire(start + 100, end).marked


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    "attack",
    (shown_and_dropped, marked_before_it_fails, replayed, replayed_in_pieces, two_installations),
)
def test_refused(attack, version):
    victim = Attacked(version)
    attack(victim)
    victim.judge_refused(1)


NEXT = Handle(HANDLE.context, HANDLE.generation + 1)


def fed(rx: KtlsRx, pieces) -> list[str]:
    """How the records of some packets were opened, or the alert at the end."""
    events = rx.feed(pieces)
    return [e.how.value for e in events if isinstance(e, RecordAccepted)] + [
        e.alert for e in events if isinstance(e, RecordRefused)
    ]


def test_marks_of_an_earlier_installation_are_not_used():
    stream = Sent(VERSION_TLS13)
    for _ in range(4):
        stream.add(bytes(100))
    cuts = [record.offset + 60 for record in stream.records]
    pieces = ranges(stream, cuts, [TRUTH] * 5)
    for handle, told, hows in (
        (None, None, ["full"] * 4),  # there was no device before: no mark is older
        (HANDLE, (stream.seq + cuts[1]) % 2**32, ["partial", "partial", "full", "full"]),
        (HANDLE, stream.records[2].offset + stream.seq, ["partial", "partial", "full", "full"]),
        (HANDLE, stream.seq, ["full"] * 4),
        (HANDLE, None, ["partial"] * 4),
    ):
        rx = KtlsRx(stream.keys(0), stream.seq, handle=handle, one_bit=True)
        rx.installed(None)
        rx.installed(NEXT, told)
        assert fed(rx, pieces) == hows


@pytest.mark.parametrize("belief", (TRUTH, Belief(epoch=-1)))
def test_marks_from_before_new_keys_are_not_used(belief):
    """Under the old key they are noise, which must not be delivered."""
    stream = Sent(VERSION_TLS13)
    stream.add(KEY_UPDATE, 22)
    stream.next_epoch()
    for _ in range(3):
        stream.add(bytes(100))
    at = [record.offset for record in stream.records]
    first, early, other, last = ranges(stream, at[1:], [TRUTH, belief, TRUTH, TRUTH])
    rx = KtlsRx(
        stream.keys(0), stream.seq, handle=HANDLE, one_bit=True, next_keys=lambda: stream.keys(1)
    )
    events = rx.feed([first])
    assert any(isinstance(event, Rekey) for event in events)
    if belief is not TRUTH:
        assert fed(rx, [early]) == ["bad_record_mac"]
        return
    assert fed(rx, [early]) == ["partial"]
    rx.rekeyed(NEXT, (stream.seq + at[2] + 1) % 2**32)
    assert fed(rx, [other]) == ["partial"]  # it starts before the bytes that had come by then
    assert fed(rx, [last]) == ["full"]


# --- purpose of the option ----------------------------------------------------------------------


def behind_a_false_record(victim: Attacked) -> None:
    """The card alone sees two false headers, and its false record 2 yields a chosen record.

    One header is of a record 1 that hides the true one, the other of a record 2 in the remainder.
    TCP gets the true records, past the card. After them come bytes that the card takes for text of
    its record 2, whose keystream is known. Marked, they are a record.
    """
    at = victim.records_at
    false = at[4] - 100
    victim.wire(0, at[1])
    victim.false(at[1], victim.header(false - at[1]), host=False)
    victim.false(false, victim.header(1000, 2), host=False)
    victim.wire(at[1], at[4], card=False)
    victim.false(at[4], victim.disguised(at[4], false, 2))


def assert_deceived(victim: Attacked, attack) -> None:
    """The attacker's text is delivered to the application."""
    with pytest.raises(Break) as broken:
        attack(victim)
    assert broken.value.kind == "forged"
    assert victim.packets[-1].marked
    assert victim.records[-1].plaintext == FORGED


@pytest.mark.parametrize("version", VERSIONS)
def test_without_the_option_a_one_bit_host_accepts_a_forged_record(version):
    assert_deceived(Attacked(version, Option.NONE), behind_a_false_record)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    "options, one_bit, marked",
    [
        (Option.NONE, False, True),
        (Option.ONE_BIT, False, False),
        (Option.ONE_BIT, True, False),
    ],
)
def test_the_option_or_rule_h_refuses_it(options, one_bit, marked, version):
    victim = Attacked(version, options, one_bit)
    behind_a_false_record(victim)
    assert victim.packets[-1].marked == marked
    victim.judge_refused(4)


# --- remaining exposure -------------------------------------------------------------------------


def inside_a_false_record(victim: Attacked) -> None:
    """The card alone sees a false header where record 3 starts.

    It claims more length than the record has and, in TLS 1.2, the nonce of record 0, whose text is
    known. TCP gets record 3 past the card, and after it bytes that the card takes for the rest of
    its record.
    """
    at = victim.records_at
    victim.wire(0, at[3])
    victim.false(at[3], victim.header(1000, 0), host=False)
    victim.wire(at[3], at[4], card=False)
    victim.false(at[4], victim.disguised(at[4], at[3], 0))


def test_inside_a_false_record_of_tls12_a_one_bit_host_is_deceived():
    """No option of the device closes this gap: the attacker chooses the nonce."""
    assert_deceived(Attacked(VERSION_TLS12), inside_a_false_record)


def test_inside_a_false_record_of_tls13_the_bytes_are_noise():
    victim = Attacked(VERSION_TLS13)
    inside_a_false_record(victim)
    assert victim.packets[-1].marked
    assert len(victim.records) == 4 and victim.refused


@pytest.mark.parametrize("options", (Option.NONE, Option.ONE_BIT))
@pytest.mark.parametrize("version", VERSIONS)
def test_inside_a_false_record_rule_h_is_not_deceived(version, options):
    victim = Attacked(version, options, one_bit=False)
    inside_a_false_record(victim)
    assert victim.packets[-1].marked
    victim.judge_refused(4)


@pytest.mark.parametrize("one_bit", (False, True))
def test_a_one_bit_host_may_end_a_connection_that_rule_h_keeps(one_bit):
    """TCP gets every byte right, but the card took them for text of a false record."""
    victim = Attacked(VERSION_TLS13, Option.ONE_BIT, one_bit)
    at, end = victim.records_at, len(victim.stream.wire)
    victim.wire(0, at[3])
    victim.false(at[3], victim.header(1000), host=False)
    victim.wire(at[3], at[4], card=False)
    assert victim.wire(at[4], end).marked
    if one_bit:
        assert len(victim.records) == 4 and victim.refused
        with pytest.raises(Break, match="lost"):
            victim.judge()
    else:
        assert len(victim.records) == 6
        victim.judge()
