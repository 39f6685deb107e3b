# SPDX-License-Identifier: Apache-2.0
"""Completeness of the walk: after a hole it resumes and proves the candidate without software.

`tests/trials/brute_force/trial.py` judges the same at random. Here are the cases by name, on the
behavioural model. The keys are constants and protect nothing.
"""

import pytest

from sealane.driver.model.walker.row import TrackerState
from sealane.hdl.abi.config import VERSION_TLS12, VERSION_TLS13, header_bytes
from sealane.hdl.abi.events import EventKind
from sealane.hdl.abi.meta import ProvenBy, Reason
from tests.support.card import Flow, model_device
from tests.support.flow_frames import frame
from tests.support.marking_device import Stream

VERSIONS = (VERSION_TLS12, VERSION_TLS13)


def make(version, sizes):
    """A flow over a stream of records with contents of these sizes."""
    stream = Stream(version)
    for size in sizes:
        stream.add(bytes(size))
    return Flow(stream, model_device()), stream.records


def proven_by_walk(flow, end=None):
    """Whether the latest event says that the walk proved the position.

    end: offset of the end of the packet that must have brought it.
    """
    last = flow.device.events()[-1]
    here = end is None or last.seq == (flow.stream.seq + end) % 2**32
    return here and (last.kind, last.proven_by) == (EventKind.RESUMED, ProvenBy.WALK)


def resumes(flow, records):
    """In the record where the candidate's chain was, the rest is marked without a verdict.

    The next record is opened as ever.
    """
    rest = flow.send(records[2].offset + 50, records[3].offset)
    assert rest.marked and not rest.meta.last_completes
    assert flow.send(records[3].offset, records[3].end).marked


def state(flow):
    """The tracker's state."""
    (row,) = flow.device._transport._rows.values()
    return row.state


@pytest.mark.parametrize("version", VERSIONS)
def test_the_fill_of_a_hole_with_a_header_proves_the_candidate(version):
    flow, records = make(version, [100, 200, 300, 400])
    hole, edge = records[1].offset - 10, records[1].offset + 60
    assert flow.send(0, hole).marked
    assert flow.send(edge, records[2].offset + 50).meta.reason == Reason.AWAITING_PROOF
    assert flow.send(hole, edge).marked
    assert proven_by_walk(flow, edge)
    resumes(flow, records)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("cut", range(-1, 15))
def test_a_header_cut_where_the_hole_begins(version, cut):
    """The bytes of the header that came before the hole are kept until the rest comes."""
    flow, records = make(version, [100, 200, 300, 400])
    hole, edge = records[1].offset + cut, records[1].offset + 60
    flow.send(0, hole)
    first = flow.send(edge, records[2].offset + 50)
    assert flow.send(hole, edge).marked == (cut < 5 or cut >= header_bytes(version))
    if cut < 5:
        assert first.meta.reason == Reason.AWAITING_PROOF
        assert proven_by_walk(flow)
        resumes(flow, records)
    else:
        # With the length known no header was missing. A record without its nonce stays closed.
        assert flow.send(records[2].offset + 50, records[3].end).marked


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("cut", range(16))
def test_a_header_cut_where_a_fill_ends(version, cut):
    """The hole is filled by two segments that meet anywhere in a header.

    If the first one brings the walk to the candidate, the second one lies in a record of which
    bytes have passed unfed. It can get no verdict and is closed.
    """
    flow, records = make(version, [100, 200, 300, 400])
    hole, edge = records[1].offset - 10, records[1].offset + 60
    middle = records[1].offset + cut
    flow.send(0, hole)
    flow.send(edge, records[2].offset + 50)
    assert flow.send(hole, middle).marked
    arrived = proven_by_walk(flow, middle)
    assert arrived == (cut >= header_bytes(version))
    assert flow.send(middle, edge).marked != arrived
    assert arrived or proven_by_walk(flow)
    resumes(flow, records)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("cut", range(1, 14))
def test_a_header_cut_where_the_hole_ends(version, cut):
    """The first bytes after the hole are kept. With them the walk continues by the length."""
    flow, records = make(version, [100, 200, 300, 400])
    hole, edge = records[1].offset - 10, records[1].offset + cut
    flow.send(0, hole)
    flow.send(edge, records[2].offset + 50)
    assert flow.send(hole, edge).marked
    assert proven_by_walk(flow, edge)
    resumes(flow, records)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("size", range(1, 6))
def test_a_short_segment_behind_the_hole(version, size):
    """Where the kept bytes do not make a complete header the walk waits for software."""
    flow, records = make(version, [100, 200, 300, 400])
    hole, edge = records[1].offset - 10, records[1].offset + 2
    flow.send(0, hole)
    flow.send(edge, edge + size)
    flow.send(edge + size, records[2].offset + 50)
    assert flow.send(hole, edge).marked
    assert proven_by_walk(flow, edge) == (size >= 3)
    if size < 3:
        candidate_seq = (flow.stream.seq + records[2].offset) % 2**32
        flow.device.tls_dev_resync(flow.handle, candidate_seq, 2)
    resumes(flow, records)


def test_bytes_behind_the_hole_that_are_no_header_are_not_followed():
    flow, records = make(VERSIONS[1], [100, 200, 300, 400])
    hole, edge = records[1].offset - 10, records[1].offset + 2
    flow.send(0, hole)
    forged = bytearray(flow.stream.wire[edge : records[2].offset + 50])
    forged[0] ^= 4  # the version
    (packet,) = flow.device.receive([frame((flow.stream.seq + edge) % 2**32, bytes(forged))])
    assert not packet.marked
    assert flow.send(hole, edge).marked
    assert not proven_by_walk(flow)


@pytest.mark.parametrize("version", VERSIONS)
def test_several_holes_with_and_without_headers(version):
    """A header is in the first of three holes, and only that hole stands in the way.

    The second and the third lie in records of the candidate's chain and of the open record. Every
    one is filled.
    """
    flow, records = make(version, [300, 200, 300, 400, 500])
    first, edge = records[1].offset - 10, records[1].offset + 60
    assert flow.send(0, 50).marked
    assert flow.send(70, first).marked  # a hole in a record whose header is known
    flow.send(edge, records[2].offset + 50)
    flow.send(records[2].offset + 90, records[3].offset + 40)  # a hole on the candidate's chain
    assert flow.send(50, 70).marked
    assert flow.send(first, edge).marked
    assert proven_by_walk(flow)
    assert flow.send(records[3].offset + 40, records[4].end).marked
    assert state(flow) is TrackerState.TRACKING


@pytest.mark.parametrize("version", VERSIONS)
def test_a_header_lost_on_the_candidates_chain_restarts_the_scan(version):
    flow, records = make(version, [100, 200, 300, 400, 500, 600])
    hole, edge = records[1].offset - 10, records[1].offset + 60
    flow.send(0, hole)
    flow.send(edge, records[2].offset + 50)
    flow.send(records[3].offset + 30, records[4].offset + 30)  # the header of record 3 is lost too
    requests = flow.device.events()
    assert [(e.candidate_seq - flow.stream.seq) % 2**32 for e in requests] == [
        records[2].offset,
        records[4].offset,
    ]
    assert flow.send(hole, edge).marked  # arrives before the candidate and waits there
    assert not flow.device.events()
    assert flow.send(edge, records[2].offset + 50).marked  # forgotten, so it counts now
    assert flow.send(records[2].offset + 50, records[3].offset + 30).marked
    assert proven_by_walk(flow)
    assert flow.send(records[4].offset + 30, records[5].end).marked
    assert state(flow) is TrackerState.TRACKING


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(("before", "behind"), [(20, 0), (0, 20), (20, 20)])
def test_unseen_bytes_of_an_overlapping_retransmission_feed_the_walk(version, before, behind):
    """R4: only its unseen bytes feed, it is not marked where it overlaps, the walk arrives."""
    flow, records = make(version, [100, 200, 300, 400])
    hole, edge = records[1].offset - 10, records[1].offset + 60
    flow.send(0, hole)
    flow.send(edge, records[2].offset + 50)
    again = flow.send(hole - before, edge + behind)
    assert again.meta.reason == (Reason.SEEN_BYTES if before else Reason.NONE)
    assert proven_by_walk(flow)
    resumes(flow, records)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_walk_that_passes_the_candidate_in_a_segment_proves_it(version):
    """A retransmission longer than the hole is marked and opens what it passes.

    It proves the candidate. The next record that begins is opened and marked, and sync is not lost
    again.
    """
    flow, records = make(version, [100, 200, 300, 400, 500])
    hole, edge = records[1].offset - 10, records[1].offset + 60
    flow.send(0, hole)
    flow.send(edge, records[3].offset + 50)
    assert flow.send(hole, records[2].offset + 100).marked
    assert proven_by_walk(flow)
    # The rest of record 2 has passed unfed.
    again = flow.send(records[2].offset + 100, records[2].end)
    assert again.meta.reason == Reason.NOT_OPEN
    assert flow.send(records[3].offset, records[3].offset + 50).meta.reason == Reason.SEEN_BYTES
    rest = flow.send(records[3].offset + 50, records[4].offset)
    assert rest.marked and not rest.meta.last_completes
    assert flow.send(records[4].offset, records[4].end).marked


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("behind", [0, 1, 5, 20, 300])
def test_a_walk_that_passes_the_whole_candidate_chain_goes_on_by_itself(version, behind):
    """The segment that fills the hole ends at the end of the candidate's chain, or after it."""
    flow, records = make(version, [100, 200, 300, 400, 500])
    hole, edge = records[1].offset - 10, records[1].offset + 60
    followed = records[2].offset + 100
    flow.send(0, hole)
    flow.send(edge, followed)
    assert flow.send(hole, followed + behind).marked
    assert flow.send(followed + behind, records[4].end).marked


@pytest.mark.parametrize("version", VERSIONS)
def test_the_record_at_the_candidate_that_goes_on_behind_it_stays_open(version):
    """The candidate's only record is longer than its followed part, and its rest is marked too.

    The next record's beginning is marked with it.
    """
    flow, records = make(version, [100, 200, 900, 400])
    hole, edge = records[1].offset - 10, records[1].offset + 60
    flow.send(0, hole)
    flow.send(edge, records[2].offset + 300)
    assert flow.send(hole, records[2].offset + 100).marked
    assert proven_by_walk(flow)
    last = flow.send(records[2].offset + 300, records[3].end)
    assert last.marked and last.meta.last_completes and not last.meta.first_completes
    again = flow.send(records[2].offset + 100, records[2].offset + 300)
    assert again.meta.reason == Reason.NOT_OPEN


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("end", ["inside", "high", "behind"])
def test_an_overlapping_retransmission_feeds_every_hole_in_it(version, end):
    """R4: three holes in two open records, and bytes after everything seen, in one segment."""
    flow, records = make(version, [300, 400, 500])
    first, second = records[0], records[1]
    assert flow.send(0, 50).marked
    assert flow.send(60, 90).marked
    assert flow.send(120, second.offset + 60).marked
    assert flow.send(second.offset + 80, second.offset + 100).marked
    stop = second.offset + {"inside": 90, "high": 100, "behind": 140}[end]
    assert flow.send(40, stop).meta.reason == Reason.SEEN_BYTES
    row = next(iter(flow.device._transport._rows.values()))
    assert not any(row.holes)
    assert [slot.number for slot in row.slots if slot] == [second.number]
    assert flow.device.device_counters()["records_verified"] == 1
    assert flow.send(first.offset + 70, first.offset + 80).meta.reason == Reason.NOT_OPEN
    assert flow.send(max(stop, second.offset + 100), records[2].end).marked


@pytest.mark.parametrize("version", VERSIONS)
def test_a_walk_that_arrives_somewhere_else_drops_a_false_candidate(version):
    """The ciphertext holds a chain of false headers. The walk does not reach the one taken."""
    stream = Stream(version)
    stream.add(bytes(100))
    zeros = Stream(version, records=list(stream.records), wire=stream.wire, number=1)
    key_stream = zeros.add(bytes(300)).wire[header_bytes(version) :][:300]
    false = (b"\x17\3\3\0\x19" + bytes(25)) * 10
    record = stream.add(bytes(a ^ b for a, b in zip(false, key_stream, strict=False)))
    assert record.wire[header_bytes(version) :].startswith(false)
    last = stream.add(bytes(400))
    flow = Flow(stream, model_device())
    hole, edge = record.offset - 10, record.offset + header_bytes(version) + 3
    flow.send(0, hole)
    false_end = record.offset + header_bytes(version) + 200
    assert flow.send(edge, false_end).meta.reason == Reason.AWAITING_PROOF
    assert flow.send(hole, edge).marked  # its length leads past the candidate
    assert state(flow) is TrackerState.TRACKING
    request, resumed = flow.device.events()
    assert resumed.proven_by == ProvenBy.WALK and resumed.candidate_seq == request.candidate_seq
    assert request.candidate_seq not in [(stream.seq + r.offset) % 2**32 for r in stream.records]
    assert flow.send(false_end, last.end).marked
