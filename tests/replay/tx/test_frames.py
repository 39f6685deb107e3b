# SPDX-License-Identifier: Apache-2.0
"""Replays of transmit on frames that are not what a host sent: cut short, with trailers, forged."""

from dataclasses import replace

import pytest

from sealane.driver.replay.capture import Packet
from sealane.driver.tls.keylog import Keylog
from tests.support.tcp_frames import ACK, DEFAULT, SYN, conversation, frames
from tests.support.tx_replays import all_identical, app_is, long_run, tx_replay, tx_replay_frames


@pytest.mark.parametrize("vlans, size", [((), 4), ((), 40), ((7,), 1)])
def test_what_was_put_behind_the_packets_on_the_way(vlans, size):
    """A check sequence, a switch's time stamp, a switch's padding in a VLAN: no host sent it, and
    it keeps no acknowledgement from leaving."""
    run = long_run()
    path = replace(DEFAULT, vlans=vlans, timestamps=False)
    whole = frames(conversation(run.flights, path), path)
    made = [frame.ljust(63, b"\0") + bytes(size) for frame in whole]
    result = tx_replay_frames(made, run.keylog)
    all_identical(result)
    app_is(result, run)
    assert result.tx("c2s")["by_way"]["in_order"] == result.tx("c2s")["segments"]


def test_frames_that_were_cut_short():
    """Caught with a snap length too small: what is left of them is given to nobody."""
    run = long_run()
    made = frames(conversation(run.flights))
    packets = []
    for i, frame in enumerate(made):
        packets.append(Packet(len(packets), i / 1000, frame, len(frame)))
        if len(frame) > 1000:
            packets.append(Packet(len(packets), i / 1000, frame[:400], len(frame)))
    result = tx_replay(packets, Keylog.parse(run.keylog))
    (note,) = result.report["errors"]
    assert "cut short" in note and note.endswith(f" {len(packets) - len(made)}")
    result.report["errors"].clear()
    all_identical(result)
    app_is(result, run)


def test_a_syn_with_bytes_of_the_stream():
    """Some stranger's: it leaves as it is, and changes nothing."""
    run = long_run()
    segments = conversation(run.flights)
    data = [s for s in segments if s.direction == "c2s" and len(s.payload) > 1000]
    at = segments.index(data[5]) + 1
    syn = replace(data[5], flags=SYN | ACK, offset=data[5].offset - 1)
    made = frames([*segments[:at], syn, *segments[at:]])
    result = tx_replay_frames(made, run.keylog)
    all_identical(result)
    app_is(result, run)
    assert result.tx("c2s")["wire_reasons"] == {"foreign_bytes": 1}
