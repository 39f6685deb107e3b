# SPDX-License-Identifier: Apache-2.0
"""Replays on the behavioural model: captures against their truth, and what no capture has."""

import dataclasses
import gzip
import random

import dpkt
import pytest

from sealane.driver.model.device import ModelTransport
from sealane.driver.replay.capture import read_capture
from sealane.driver.replay.rx.replay import Replay
from sealane.driver.tls.keylog import Keylog
from sealane.hdl.abi.config import Config
from tests.support.replays import (
    CAPTURES,
    DIRECTIONS,
    LOSSLESS,
    NAMES,
    captured,
    check_direction,
    check_truth,
    must_be_whole,
    replay,
    replay_named,
    truth_of,
    whole,
)
from tests.support.tcp_frames import (
    FIN,
    RST,
    Peer,
    Wire,
    conversation,
    frames,
    impair,
    random_cut,
    write_pcap,
)
from tests.support.tls_traffic import TlsRun


def keys_of(name):
    return Keylog.read(CAPTURES / f"{name}.keys")


def run_frames(all_frames, keylog, config=None, **options):
    """Frames through a model; returns the report, with every direction checked."""
    packets = captured(all_frames)
    runner = Replay(ModelTransport(config), Keylog.parse(keylog), config=config, **options)
    runner.run(packets)
    report, plaintext = runner.report("made", "model"), runner.plaintext()
    for connection in report["connections"]:
        for direction in DIRECTIONS:
            check_direction(connection[direction]["rx"], plaintext[connection["index"], direction])
    return report, plaintext


def exchange(run, count=6, size=3000, seed=1):
    """Application data both ways."""
    chance = random.Random(seed)
    for _ in range(count):
        for direction in DIRECTIONS:
            run.send(direction, chance.randbytes(chance.randint(0, size)))
    return run


@pytest.mark.parametrize("name", NAMES)
def test_capture_against_its_truth(name):
    result = replay_named(ModelTransport(), name)
    truth = truth_of(name)
    check_truth(result, truth)
    assert result.report["errors"] == []
    if name in LOSSLESS:
        for (index, direction), offsets in must_be_whole(name, result).items():
            assert offsets <= whole(result, index, direction)
        return
    full = sum(c[w]["rx"]["records_full"] for c in result.report["connections"] for w in DIRECTIONS)
    ceiling = sum(c[w]["app_records_in_order"] for c in truth["connections"] for w in DIRECTIONS)
    assert full >= 0.85 * ceiling


@pytest.mark.parametrize("delay", [1, 3, 10])
@pytest.mark.parametrize(
    "name",
    [
        "l3_tls13_aes256_loss3_srv",
        "c37_tls13_keyupdate_corked",
        "c03_tls13_aes128_max",
    ],
)
def test_late_reactions_cost_records_and_nothing_else(name, delay):
    result = replay_named(ModelTransport(), name, confirm_delay=delay)
    check_truth(result, truth_of(name))


def test_go_on_is_late_by_the_delay():
    result = replay_named(ModelTransport(), "c03_tls13_aes128_max", confirm_delay=5)
    events = [e for e in result.report["events"] if e["dir"] == "s2c"]
    parked = next(e["packet"] for e in events if e["kind"] == "parked")
    released = next(e["packet"] for e in events if e["kind"] == "go_on")
    between = [
        s for s in result.trace.segments if s.direction == "s2c" and parked < s.packet <= released
    ]
    assert len(between) == 5
    assert {s.outcome for s in between} == {"parked"}


def test_same_report_whatever_is_in_flight_together(monkeypatch):
    """The order of packets and commands must not depend on how many packets are posted at once."""
    together = replay_named(ModelTransport(), "l3_tls13_aes256_loss3_srv").report
    monkeypatch.setattr("sealane.driver.replay.rx.batches.BATCH", 1)
    alone = replay_named(ModelTransport(), "l3_tls13_aes256_loss3_srv").report
    assert together == alone


def test_file_format_does_not_matter(tmp_path):
    name = "c06_tls13_aes128_tiny"
    packed = CAPTURES / f"{name}.pcap.gz"
    plain, ng = tmp_path / "x.pcap", tmp_path / "x.pcapng"
    plain.write_bytes(gzip.decompress(packed.read_bytes()))
    with ng.open("wb") as out:
        writer = dpkt.pcapng.Writer(out, snaplen=1 << 17)
        for packet in read_capture(packed).packets:
            writer.writepkt(packet.frame, packet.time)
    reports = []
    for path in (packed, plain, ng):
        report = replay(ModelTransport(), path, keys_of(name)).report
        report["capture"] = ""
        for event in report["events"]:
            event["time"] = round(event["time"], 3)  # a float of the writer's making
        reports.append(report)
    assert reports[0] == reports[1] == reports[2]


@pytest.mark.parametrize("version", ["1.2", "1.3"])
@pytest.mark.parametrize("seed", range(4))
def test_lossy_traffic_is_recovered(version, seed):
    run = exchange(TlsRun(version).handshake(), 25, 9000, seed).close()
    path = impair(conversation(run.flights, cut=random_cut(seed, 200)), seed)
    report, plaintext = run_frames(frames(path), run.keylog)
    assert plaintext == {(0, direction): run.app[direction] for direction in DIRECTIONS}
    assert report["connections"][0]["offloaded"]


def test_two_connections_taking_turns_and_one_4_tuple_again():
    wires = [Wire(Peer("10.9.0.2", 40000 + i, 77 * i), Peer("10.9.0.1", 443, 5)) for i in (0, 1)]
    runs = [exchange(TlsRun(v).handshake(), seed=i).close() for i, v in enumerate(("1.3", "1.2"))]
    again = exchange(TlsRun("1.2").handshake(), seed=9).close()
    streams = [frames(conversation(r.flights, w), w) for r, w in zip(runs, wires, strict=True)]
    mixed = []
    while any(streams):
        mixed += [stream.pop(0) for stream in streams if stream]
    reused = Wire(dataclasses.replace(wires[0].client, isn=1 << 31), wires[0].server)
    mixed += frames(conversation(again.flights, reused), reused)
    report, plaintext = run_frames(mixed, runs[0].keylog + runs[1].keylog + again.keylog)
    for index, run in enumerate([*runs, again]):
        connection = report["connections"][index]
        assert connection["offloaded"] and connection["reason"] is None
        for direction in DIRECTIONS:
            assert plaintext[index, direction] == run.app[direction]
            assert connection[direction]["rx"]["records_full"] > 0


def test_full_flow_table_leaves_the_rest_to_software():
    config = Config(flows=4)
    runs = [exchange(TlsRun("1.3").handshake(), 2, seed=i) for i in range(4)]
    streams = []
    for i, run in enumerate(runs):
        wire = Wire(Peer("10.9.0.2", 40000 + i), Peer("10.9.0.1", 443))
        streams.append(frames(conversation(run.flights, wire, fin=False), wire))
    report, plaintext = run_frames(
        [frame for stream in streams for frame in stream],
        "".join(r.keylog for r in runs),
        config,
    )
    assert [c["offloaded"] for c in report["connections"]] == [True, True, False, False]
    assert "full" in report["connections"][3]["reason"]
    for index, run in enumerate(runs):
        assert all(plaintext[index, direction] == run.app[direction] for direction in DIRECTIONS)


def test_closed_connections_give_their_contexts_back():
    config = Config(flows=4)
    runs = [exchange(TlsRun("1.3").handshake(), 2, seed=i).close() for i in range(5)]
    all_frames = []
    for i, run in enumerate(runs):
        wire = Wire(Peer("10.9.0.2", 40000 + i), Peer("10.9.0.1", 443))
        all_frames += frames(conversation(run.flights, wire), wire)
    report, _ = run_frames(all_frames, "".join(r.keylog for r in runs), config)
    assert all(c["offloaded"] for c in report["connections"])


@pytest.mark.parametrize("suite", ["chacha", "ccm", "cbc"])
def test_other_suites_are_left_to_software(suite):
    run = exchange(TlsRun("1.2", suite).handshake()).close()
    report, plaintext = run_frames(frames(conversation(run.flights)), run.keylog)
    connection = report["connections"][0]
    assert not connection["offloaded"] and connection["reason"]
    for direction in DIRECTIONS:
        assert plaintext[0, direction] == run.app[direction]
        assert (
            connection[direction]["rx"]["records_none"]
            == connection[direction]["rx"]["app_records"]
        )
        assert connection[direction]["rx"]["segments_decrypted"] == 0


def test_connection_without_syn_is_not_offloaded():
    run = exchange(TlsRun("1.3").handshake()).close()
    report, plaintext = run_frames(frames(conversation(run.flights, syn=False)), run.keylog)
    assert len(report["connections"]) == 1
    assert not report["connections"][0]["offloaded"]
    assert "SYN" in report["connections"][0]["reason"]
    assert all(plaintext[0, direction] == run.app[direction] for direction in DIRECTIONS)


def test_missing_keys_recover_nothing_and_say_why():
    run = exchange(TlsRun("1.3").handshake()).close()
    other = TlsRun("1.3").handshake()
    report, plaintext = run_frames(frames(conversation(run.flights)), other.keylog)
    connection = report["connections"][0]
    assert not connection["offloaded"] and "key log" in connection["reason"]
    assert plaintext == {(0, direction): b"" for direction in DIRECTIONS}


def test_wrong_keys_recover_nothing():
    run = exchange(TlsRun("1.3").handshake()).close()
    lines = []
    for line in run.keylog.splitlines():
        label, name, secret = line.split()
        lines.append(f"{label} {name} {secret[::-1]}")
    report, plaintext = run_frames(frames(conversation(run.flights)), "\n".join(lines))
    connection = report["connections"][0]
    assert not connection["offloaded"] and connection["reason"]
    assert plaintext == {(0, direction): b"" for direction in DIRECTIONS}


def test_bad_checksums_are_dropped_by_the_host_and_marked_by_nobody():
    run = exchange(TlsRun("1.3").handshake(), 10).close()
    segments = conversation(run.flights)
    all_frames = []
    for i, segment in enumerate(segments):
        if i > 12 and segment.payload and i % 3 == 0:
            spoilt = segment.payload[:-1] + bytes([segment.payload[-1] ^ 1])
            bad = dataclasses.replace(segment, payload=spoilt)
            all_frames.append(bad.frame(Wire(), bad_checksum=True))
        all_frames.append(segment.frame(Wire()))
    report, plaintext = run_frames(all_frames, run.keylog)
    assert all(plaintext[0, direction] == run.app[direction] for direction in DIRECTIONS)
    reasons = [report["connections"][0][direction]["rx"]["reasons"] for direction in DIRECTIONS]
    assert sum(r.get("bad_checksum", 0) for r in reasons) > 0


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_forged_record_ends_what_is_given_out(version):
    """A flipped bit under a good checksum: software finds it, and nothing behind it is read."""
    run = TlsRun(version).handshake()
    before = exchange(run, 3).app["c2s"]
    run.send("c2s", bytes(5000))
    run = exchange(run, 3)
    segments = conversation(run.flights)
    position = run.stream("c2s").index
    cut = len(before)
    target = max(
        (s for s in segments if s.direction == "c2s" and len(s.payload) == 1448),
        key=lambda s: s.offset if s.offset < position(s.payload) + 1 else 0,
    )
    spoilt = dataclasses.replace(
        target,
        payload=target.payload[:100] + bytes([target.payload[100] ^ 4]) + target.payload[101:],
    )
    all_frames = frames([spoilt if s is target else s for s in segments])
    report, plaintext = run_frames(all_frames, run.keylog)
    got = plaintext[0, "c2s"]
    assert run.app["c2s"].startswith(got) and len(got) < len(run.app["c2s"])
    assert report["connections"][0]["c2s"]["rx"]["refused_records"] == 1
    assert cut >= 0 and plaintext[0, "s2c"] == run.app["s2c"]


def test_prelude_in_the_clear():
    """STARTTLS: TLS begins behind text."""
    run = exchange(TlsRun("1.2").handshake()).close()
    prelude = [("s2c", b"220 ready\r\n"), ("c2s", b"STARTTLS\r\n"), ("s2c", b"220 go ahead\r\n")]
    report, plaintext = run_frames(frames(conversation(prelude + run.flights)), run.keylog)
    assert report["connections"][0]["offloaded"]
    assert all(plaintext[0, direction] == run.app[direction] for direction in DIRECTIONS)


def test_resumption_with_early_data():
    first = TlsRun("1.3", max_early_data=4000).handshake().close()
    run = TlsRun(contexts=first.contexts, session=first.session).early_data(bytes(2500))
    exchange(run).close()
    report, plaintext = run_frames(frames(conversation(run.flights)), run.keylog)
    assert all(plaintext[0, direction] == run.app[direction] for direction in DIRECTIONS)
    assert report["connections"][0]["c2s"]["rx"]["records_none"] >= 1
    assert report["connections"][0]["offloaded"]


def test_renegotiation():
    run = exchange(TlsRun("1.2").handshake())
    exchange(run.renegotiate("c2s"), seed=2).close()
    report, plaintext = run_frames(frames(conversation(run.flights)), run.keylog)
    assert all(plaintext[0, direction] == run.app[direction] for direction in DIRECTIONS)
    kinds = {e["kind"] for e in report["events"]}
    assert {"parked", "key_update"} <= kinds


@pytest.mark.parametrize("jumbo", [False, True])
def test_ipv6_in_vlans_and_jumbo_frames(jumbo):
    wire = Wire(
        Peer("fd09::2", 40000), Peer("fd09::1", 443), vlans=(7, 42), mss=8948 if jumbo else 1428
    )
    run = exchange(TlsRun("1.3").handshake(), 10, 16384).close()
    report, plaintext = run_frames(frames(conversation(run.flights, wire), wire), run.keylog)
    assert all(plaintext[0, direction] == run.app[direction] for direction in DIRECTIONS)
    for direction in DIRECTIONS:
        rx = report["connections"][0][direction]["rx"]
        assert rx["records_full"] >= rx["app_records"] - 2


def test_reset_ends_the_offload():
    run = exchange(TlsRun("1.3").handshake())
    segments = conversation(run.flights, fin=False)
    last = max(s.offset + len(s.payload) for s in segments if s.direction == "c2s")
    reset = dataclasses.replace(segments[-1], direction="c2s", offset=last, payload=b"", flags=RST)
    report, plaintext = run_frames(frames([*segments, reset]), run.keylog)
    assert all(plaintext[0, direction] == run.app[direction] for direction in DIRECTIONS)
    assert report["connections"][0]["offloaded"]


def test_capture_cut_short_and_junk(tmp_path):
    run = exchange(TlsRun("1.3").handshake()).close()
    chance = random.Random(3)
    junk = [chance.randbytes(chance.randint(1, 200)) for _ in range(50)]
    path = write_pcap(tmp_path / "x.pcap", [*junk, *frames(conversation(run.flights)), *junk])
    whole_file = path.read_bytes()
    path.write_bytes(whole_file[:-37])
    result = replay(ModelTransport(), path, Keylog.parse(run.keylog))
    assert len(result.report["errors"]) == 1
    assert all(result.plaintext[0, direction] == run.app[direction] for direction in DIRECTIONS)


def test_fin_with_data_and_a_new_connection_at_once():
    run = exchange(TlsRun("1.3").handshake()).close()
    segments = conversation(run.flights)
    last = max(i for i, s in enumerate(segments) if s.payload and s.direction == "s2c")
    segments[last] = dataclasses.replace(segments[last], flags=segments[last].flags | FIN)
    report, plaintext = run_frames(frames(segments), run.keylog)
    assert plaintext[0, "s2c"] == run.app["s2c"]
    assert len(report["connections"]) == 1
