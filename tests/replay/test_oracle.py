# SPDX-License-Identifier: Apache-2.0
"""The software truth of whole captures made for the test: lossy paths, many connections."""

import random
from dataclasses import replace

import pytest

from sealane.driver.replay.capture import read_capture
from sealane.driver.replay.oracle import decode_capture
from sealane.driver.tls.keylog import Keylog
from sealane.driver.tls.records import Outcome
from tests.support.replays import captured
from tests.support.sealed_streams import Tls13
from tests.support.tcp_frames import (
    DEFAULT,
    Peer,
    conversation,
    frames,
    impair,
    random_cut,
    write_pcap,
)
from tests.support.tls_traffic import TlsRun, talk

BOTH = ("c2s", "s2c")


def decode(all_frames, keylog):
    packets = captured(all_frames)
    return decode_capture(packets, Keylog.parse(keylog))


def agree(truth, run):
    for direction in BOTH:
        assert truth[direction].app_bytes == run.app[direction]
        assert truth[direction].leftover_bytes == 0
        assert truth[direction].refused_records == 0
        assert truth[direction].stream_bytes == len(run.stream(direction))


@pytest.mark.parametrize("version", ["1.2", "1.3"])
@pytest.mark.parametrize("seed", range(4))
def test_lossy_path(version, seed, tmp_path):
    chance = random.Random(seed)
    run = TlsRun(version).handshake()
    for _ in range(30):
        run.send(chance.choice(BOTH), chance.randbytes(chance.choice((1, 100, 20000))))
        if version == "1.3" and chance.random() < 0.2:
            run.key_update(chance.choice(BOTH), chance.random() < 0.5)
    talk(run)
    path = replace(
        DEFAULT,
        client=Peer("fd00::2", 40000, 0xFFFFF000),
        vlans=(7,) * (seed % 3),
        server=Peer("fd00::1", 443, 3),
    )
    segments = impair(conversation(run.flights, path, random_cut(seed, 200)), seed, 0.1, 0.1, 0.1)
    file = write_pcap(tmp_path / "x.pcap", frames(segments, path))
    truths = decode_capture(read_capture(file).packets, Keylog.parse(run.keylog))
    assert len(truths) == 1 and truths[0].offloadable
    agree(truths[0], run)


def test_many_connections_on_few_ports():
    """Interleaved connections, the ports used again by resumptions; one suite is not offloaded."""
    suites = ["aes128", "chacha", "aes256"]
    lanes, expected, logs = [], [], []
    for lane, suite in enumerate(suites):
        segments, run = [], None
        for turn in range(3):
            previous = {} if run is None else {"contexts": run.contexts, "session": run.session}
            run = talk(TlsRun("1.3", suite, **previous).handshake())
            path = replace(
                DEFAULT, client=Peer("10.9.0.2", 40000 + lane, 1_234_567_890 * (turn + 1) % 2**32)
            )
            segments += frames(conversation(run.flights, path), path)
            logs.append(run.keylog)
            expected.append((lane, turn, run))
        lanes.append(segments)
    chance = random.Random(1)
    merged = []
    while any(lanes):
        lane = chance.choice([lane for lane in lanes if lane])
        merged.append(lane.pop(0))
    truths = decode(merged, "".join(logs))
    assert len(truths) == 9
    assert [t.tcp.first_packet for t in truths] == sorted(t.tcp.first_packet for t in truths)
    for lane, turn, run in expected:
        truth = [t for t in truths if t.tcp.client.port == 40000 + lane][turn]
        agree(truth, run)
        assert truth.offloadable == (lane != 1)
        assert truth.tls.resumed == (turn > 0)


def test_without_syn_it_is_read_but_not_offloaded():
    run = talk(TlsRun("1.3").handshake())
    truths = decode(frames(conversation(run.flights)[2:]), run.keylog)
    agree(truths[0], run)
    assert not truths[0].offloadable


def test_a_hole_that_nobody_fills():
    run = Tls13()
    for i in range(20):
        run.write("c2s", run.client.seal(bytes([i]) * 1000))
    segments = conversation(run.flights)
    lost = next(i for i, s in enumerate(segments) if s.offset > 6000)
    truth = decode(frames(segments[:lost] + segments[lost + 1 :]), run.keylog_text)[0]
    assert 0 < truth.c2s.app_records < 20
    assert truth.c2s.stream_bytes == segments[lost].offset
    assert {r.outcome for r in truth.c2s.records} == {Outcome.OK}
    assert truth.c2s.leftover_bytes == truth.c2s.stream_bytes - truth.c2s.records[-1].end


def test_early_data_and_empty_records_count():
    run = Tls13(early=[b"early", b""])
    run.write("c2s", run.client.seal(b"") + run.client.seal(b"late"))
    truth = decode(frames(conversation(run.flights)), run.keylog_text)[0]
    assert truth.c2s.app_bytes == b"earlylate"
    assert truth.c2s.app_records == 4
    # ClientHello, EndOfEarlyData, ChangeCipherSpec, Finished
    assert truth.c2s.other_records == 4
