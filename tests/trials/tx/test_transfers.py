# SPDX-License-Identifier: Apache-2.0
"""Random transfers through transmit on the behavioural model: the short form and its coverage."""

import os

import pytest

from sealane.driver.ktls.tx.plan import DropReason, Way
from sealane.hdl.abi.config import VERSION_TLS13
from sealane.hdl.abi.tx import TxReason
from tests.support.wire_checker import Violation, WireChecker, seal
from tests.trials.tx import transfers as tx_transfers
from tests.trials.tx.mutants import MUTANTS, first_finding
from tests.trials.tx.mutants import main as mutants_main
from tests.trials.tx.rejected_frames import REJECTED_FRAMES
from tests.trials.tx.transfers import COMMON, PLANS, Tally, run_trials

TRIALS = int(os.environ.get("SEALANE_TRIALS", "200"))
BLOCK = 25
# No driver posts such frames, and none of the errant ones is like that.
NOT_HERE = {TxReason.NONE, TxReason.OVERSIZE, TxReason.NOT_TCP, TxReason.STALE_KEY}


@pytest.fixture(scope="module")
def total() -> Tally:
    return Tally()


@pytest.mark.parametrize("block", range(-(-TRIALS // BLOCK)))
def test_the_wire_is_what_software_would_have_sent(block, total):
    tally = run_trials(range(block * BLOCK, min(block * BLOCK + BLOCK, TRIALS)))
    total.add(tally)
    assert not tally.breaks, "\n".join(tally.breaks)
    assert tally.opened


def test_everything_happens():
    """Coverage of the trials: each kind of event, each way, each reason, both versions."""
    total = run_trials(range(10**6, 10**6 + 150))
    total.add(run_trials(range(10**6, 10**6 + 50), plan="keys"))
    assert not total.breaks, "\n".join(total.breaks)
    names = [*COMMON, *("errant: " + name for name in REJECTED_FRAMES)]
    names += ["way " + way.value for way in Way]
    names += ["reason " + reason.name for reason in set(TxReason) - NOT_HERE]
    names += [reason.value for reason in DropReason]
    names += [f"AES-{bits}, TLS 1.{minor}" for bits in (128, 256) for minor in (2, 3)]
    names += ["held", "undone", "key installed", "key cleared", "key refused", "wrap", "two flows"]
    assert not [name for name in names if not total.counts[name]], total
    assert total.opened > 0.9 * total.records


@pytest.mark.parametrize("plan", PLANS)
def test_each_plan(plan):
    total = run_trials(range(10), plan=plan)
    assert not total.breaks, "\n".join(total.breaks)


def test_the_command_names_the_seeds_that_broke(monkeypatch, capsys):
    assert tx_transfers.main(["--trials", "3", "--seed", "7"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("model: 3 trials, ") and "0 breaks" in line

    def lost(flow, frame, expected):
        raise tx_transfers.Broken("so it is")

    monkeypatch.setattr(tx_transfers.Trial, "judge", lambda self, *given: lost(*given))
    assert tx_transfers.main(["--trials", "3", "--seed", "7"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(",")[0] for line in lines[:3]] == ["seed 7", "seed 8", "seed 9"]
    assert all(line.endswith("so it is") for line in lines[:3])


# All others are in `python -m tests.trials.tx.mutants`. These show within a few trials.
QUICK = (
    "frontier not checked",
    "sync backwards",
    "side beyond the frontier",
    "nonce not checked",
    "marker not checked",
    "orphan passed",
    "tag not compared",
    "count not checked",
    "count not checked, written bits ignored",
    "key base off by one",
    "tags not stored",
    "undo not undone",
    "nothing waits",
    "software does not compare",
    "lost stream not noticed",
)


@pytest.mark.parametrize("name", QUICK)
def test_a_rule_that_is_taken_away_is_missed(name):
    assert first_finding(name), "no trial broke"


def test_the_command_says_which_faults_were_found(capsys):
    assert set(QUICK) < set(MUTANTS)
    assert mutants_main(["--mutant", "orphan passed"]) == 0
    assert mutants_main(["--mutant", "no drop entry", "--trials", "1"]) == 1
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("orphan passed ") and " seed " in first
    assert second.split()[-3:] == ["none", "of", "1"]


# --- the checker ----------------------------------------------------------------------------------

KEY, IV, TEXT = bytes(range(16)), bytes(12), bytes(range(100, 180))
TEXTS = TEXT, TEXT[::-1]
START = 0xFFFF_FFF0


def checker():
    """Two records for the wire, and the frames of any cut of them."""
    made = WireChecker(START, b"before")
    wire = b""
    for number, text in enumerate(TEXTS):
        header = b"\x17\3\3" + (len(text) + 16).to_bytes(2, "big")
        record = seal(VERSION_TLS13, KEY, IV, number, header, text)
        made.wrote(record)
        wire += record.wire
    return made, wire


def frame(start, payload, spoil=0):
    from tests.support.tcp_frames import Peer, Segment, Wire

    path = Wire(Peer("10.9.0.2", 40000, START - 1))
    return Segment("c2s", start, payload).frame(path, bad_checksum=bool(spoil))


def test_the_checker_opens_records_in_any_cuts():
    made, wire = checker()
    for low, high in ((0, 3), (50, 130), (3, 60), (120, len(wire)), (0, 90), (-4, 0)):
        payload = wire[low:high] if low >= 0 else b"before"[low:]
        assert made.saw(frame(low, payload)) == (low, high)
    assert made.opened == 2 and made.contiguous == made.end == len(wire)


def says(made, start, payload, spoil=0):
    with pytest.raises(Violation) as caught:
        made.saw(frame(start, payload, spoil))
    return str(caught.value)


def test_the_checker_bites():
    made, wire = checker()
    size = len(wire) // 2
    assert "checksum" in says(made, 0, wire[:50], spoil=1)
    assert "nobody wrote" in says(made, size, wire[size:] + b"x")
    assert "before the marker" in says(made, -4, b"xxxx")
    assert "header" in says(made, 0, b"\x16" + wire[1:50])
    assert "plaintext" in says(made, 0, wire[:20] + TEXT[15:25])
    assert "room" in says(made, size - 16, b"\xa5" * 16)
    made.saw(frame(5, wire[5 : size - 16]))
    again = zip(wire[5 : size - 16], *TEXTS, strict=True)  # the first record's keystream
    assert "twice" in says(made, size + 5, bytes(a ^ b ^ c for a, b, c in again))


def test_the_checker_sees_a_second_tag_and_no_harm_in_a_changed_byte():
    made, wire = checker()
    record = made.records[0]
    size = len(record.wire)
    made.saw(frame(0, wire[:size]))
    assert "another copy" in says(made, 5, bytes([wire[5] ^ 1]))
    made.changed(record, 5, TEXT[0] ^ 1)
    made.saw(frame(5, bytes([wire[5] ^ 1])))
    assert "keystream" in says(made, 5, bytes([wire[5] ^ 2]))
    assert "second tag" in says(made, size - 3, bytes([wire[size - 3] ^ 1]))


def test_the_checker_says_what_does_not_open():
    made, wire = checker()
    size = len(wire) // 2
    made.saw(frame(0, wire[: size - 1]))
    assert "does not open" in says(made, size - 1, bytes([wire[size - 1] ^ 1]))
