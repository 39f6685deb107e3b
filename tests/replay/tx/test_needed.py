# SPDX-License-Identifier: Apache-2.0
"""Acknowledgements in a capture and when the sender knows of them: what it sends again tells."""

import random

from sealane.driver.net.parser import parse
from sealane.driver.replay.capture import Packet
from sealane.driver.replay.oracle import HOST
from sealane.driver.replay.tx.needed import StillNeeded
from sealane.driver.tls.keylog import Keylog
from tests.support.tcp_frames import DEFAULT, Segment, conversation
from tests.support.tls_traffic import TlsRun
from tests.support.tx_replays import all_identical, tx_replay

DATA = random.Random(5).randbytes(6000)


def sent_again_late():
    """A capture at the receiver whose last acknowledgement is lost behind it: a second later the
    sender sends again what it knows nothing of. Packets, and the key log."""
    run = TlsRun("1.3", "aes128").handshake().send("c2s", DATA)
    segments = conversation(run.flights, fin=False)
    data = [s for s in segments if s.direction == "c2s" and s.payload][-3:]
    client, server = (
        sum(len(s.payload) for s in segments if s.direction == direction)
        for direction in ("c2s", "s2c")
    )
    ack = Segment("s2c", server, ack=client)
    timed = [(i / 1000, s) for i, s in enumerate([*segments, ack])]
    timed += [(1 + i / 10, s) for i, s in enumerate([*data, ack, ack])]
    made = [(time, s.frame(DEFAULT)) for time, s in timed]
    return [Packet(i, t, f, len(f)) for i, (t, f) in enumerate(made)], Keylog.parse(run.keylog)


def test_what_comes_again_was_not_forgotten():
    """Longer than any fixed delay after the acknowledgement, identical all the same."""
    packets, keylog = sent_again_late()
    result = tx_replay(packets, keylog)
    all_identical(result)
    tx = result.tx("c2s")
    assert (tx["retransmitted"], tx["by_way"]["seek"] + tx["by_way"]["tag"]) == (3, 3)


def test_a_delay_that_is_asked_for_is_kept():
    """With a delay of the user's the sender forgets then, whatever it sends later."""
    packets, keylog = sent_again_late()
    assert tx_replay(packets, keylog, ack_delay=0.5).tx("c2s")["dropped"] == 3
    all_identical(tx_replay(packets, keylog, ack_delay=2))


def test_lowest_byte_that_is_still_sent():
    packets, _ = sent_again_late()
    needed = StillNeeded(packets, [parse(p.frame, HOST) for p in packets])
    last = [p.index for p in packets][-3]  # the last segment with data
    (again,) = {needed.lowest(0, "c2s", i) for i in range(last - 4, last - 1)}
    assert needed.lowest(0, "c2s", 0) == 0
    assert needed.lowest(0, "c2s", last) > needed.lowest(0, "c2s", last - 1) > again > 0
    assert needed.lowest(0, "c2s", last + 1) is None
    assert needed.lowest(1, "c2s", 0) is None
