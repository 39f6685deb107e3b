# SPDX-License-Identifier: Apache-2.0
"""One-bit flows after a loss of sync: no mark at an unproven position.

A verdict or software must have proven it. In each case the card alone is shown a false chain of
headers that begins at a true one.
"""

import pytest

from sealane.driver.ktls.rx.resync import ResyncMode
from sealane.hdl.abi.commands import Option
from sealane.hdl.abi.config import VERSION_TLS12, VERSION_TLS13, header_bytes
from sealane.hdl.abi.meta import Reason
from tests.trials.divergence.one_bit import Attacked, OneBitHost
from tests.trials.divergence.plan import Sent


class Victim(Attacked):
    def __init__(self, version, options=Option.ONE_BIT, **habits):
        stream = Sent(version)
        for i in range(12):
            stream.add(bytes([i]) * 400)
        OneBitHost.__init__(self, stream, options, True, **habits)
        self.prefix = header_bytes(version)
        self.records_at = [record.offset for record in stream.records]


@pytest.mark.parametrize("options", (Option.ONE_BIT, Option.ONE_BIT | Option.MARK_REST))
@pytest.mark.parametrize("version", (VERSION_TLS12, VERSION_TLS13))
def test_the_candidates_last_record(version, options):
    """Its header passed before the position was proven, so nothing in it is marked."""
    v = Victim(version, options)
    at = v.records_at
    false = at[5] - 100
    v.wire(0, at[1])
    v.wire(at[2], at[2] + 60, host=False)  # the candidate: record 2's true header
    v.false(at[3], v.header(false - at[3]), host=False)  # "3" hides 3 and most of 4
    v.false(false, v.header(1000, 4), host=False)  # "4", whose keystream is known
    v.wire(at[1], at[5], card=False)  # software confirms record 2
    assert not v.false(at[5], v.disguised(at[5], false, 4)).marked
    v.judge()


@pytest.mark.parametrize("version", (VERSION_TLS12, VERSION_TLS13))
def test_a_hint_names_the_position_that_marks_begin_from(version):
    v = Victim(version, resync_mode=ResyncMode.CORE_NEXT_HINT)
    at = v.records_at
    false = at[5] - 100
    v.wire(0, at[1])
    v.wire(at[2], at[2] + 60, host=False)
    v.false(at[3], v.header(false - at[3]), host=False)
    v.false(false - 10, bytes(10), host=False)  # all of "3" has passed: nothing is open
    for k in range(1, 5):
        v.wire(at[k], at[k + 1], card=False)  # confirmed, then hints after barrier_end
    v.false(false, v.header(1000, 4), host=False)
    assert not v.false(at[5], v.disguised(at[5], false, 4)).marked
    v.judge()


@pytest.mark.parametrize("version", (VERSION_TLS12, VERSION_TLS13))
def test_a_walk_that_disagrees_with_the_candidate(version):
    """The walk passes the candidate's header and reads another length there than the chain did.

    Neither record is open afterwards.
    """
    v = Victim(version)
    at = v.records_at
    false = at[4] - 100
    v.wire(0, at[1])
    v.false(at[2], v.header(false - at[2], 2), host=False)
    v.false(false - 10, bytes(10), host=False)
    v.false(at[1], v.stream.wire[at[1] : at[2]] + v.header(at[9] - at[2], 2), host=False)
    v.false(false, v.header(1000, 3), host=False)
    for k in range(1, 4):
        v.wire(at[k], at[k + 1], card=False)
    assert not v.false(at[4], v.disguised(at[4], false, 3)).marked


@pytest.mark.parametrize("version", (VERSION_TLS12, VERSION_TLS13))
def test_a_false_record_that_is_fed_to_its_end_unverified(version):
    """Bytes of it passed unfed, so there is no verdict. Nothing after it is marked."""
    v = Victim(version)
    at = v.records_at
    false = at[4] - 100
    v.wire(0, at[1])
    v.false(at[1] + 100, bytes(20), host=False)
    v.false(at[1], v.header(false - at[1]), host=False)
    v.false(false - 20, bytes(20) + v.header(1000, 2), host=False)
    v.wire(at[1], at[4], card=False)
    assert not v.false(at[4], v.disguised(at[4], false, 2)).marked
    v.judge()


@pytest.mark.parametrize("version", (VERSION_TLS12, VERSION_TLS13))
def test_a_hint_behind_false_records_makes_the_walk_begin_there(version):
    """They are open and not verified. The walk has counted two where the host has four."""
    v = Victim(version)
    at = v.records_at
    false = at[3] - 20
    v.wire(0, at[1])
    v.false(at[1], v.header(false - at[1]), host=False)
    v.false(false, v.header(at[5] - false, 1), host=False)
    v.wire(at[1], at[3], card=False)
    assert v.wire(at[3], at[4]).meta.reason == Reason.HELD
    assert v.wire(at[4], at[5]).meta.reason == Reason.HELD
    assert v.rx.counters.resync_hints
    packet = v.wire(at[5], at[6])
    assert packet.marked and packet.meta.last_number == 5
    v.judge()
