# SPDX-License-Identifier: Apache-2.0
"""Replays of captures as they come from real machines and from people who mean harm.

The judge is what the two ends gave to TLS, never the replay's own software decryption.
"""

import random

import pytest

from sealane.driver.model.device import ModelTransport
from sealane.driver.net.checksum_offload import fill_in
from sealane.driver.net.parser import parse
from sealane.driver.replay.capture import Packet
from sealane.driver.replay.oracle import HOST
from sealane.driver.replay.rx.replay import Replay
from sealane.driver.tls.keylog import Keylog
from sealane.hdl.abi.config import Config
from tests.support.internet_checksum import ones_complement_sum
from tests.support.replays import DIRECTIONS, captured, check_direction
from tests.support.tcp_frames import ACK, RST, Peer, Segment, Wire, conversation, frames, read
from tests.support.tls_traffic import TlsRun

DATA = random.Random(7).randbytes(1 << 20)


class StrictTransport(ModelTransport):
    """Refuses what no wire carries, as the simulated device does."""

    def post(self, frame: bytes) -> None:
        assert frame
        super().post(frame)


def run_frames(all_frames, keylog, config=None, **options):
    """Frames through a model; returns the report's connections and the plaintext."""
    packets = captured(all_frames)
    runner = Replay(StrictTransport(config), Keylog.parse(keylog), config=config, **options)
    runner.run(packets)
    report, plaintext = runner.report("made", "model"), runner.plaintext()
    assert [error for error in report["errors"] if "came back changed" in error] == []
    for connection in report["connections"]:
        for direction in DIRECTIONS:
            check_direction(connection[direction]["rx"], plaintext[connection["index"], direction])
    return report["connections"], plaintext


def check_app(plaintext, run, index=0):
    """What the two ends of `run` gave to TLS was recovered."""
    for direction in DIRECTIONS:
        assert plaintext[index, direction] == run.app[direction]


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_frames_that_offloads_of_the_capturing_host_joined(version):
    """Longer than the device examines: software takes them, and nothing else changes."""
    run = TlsRun(version, "aes128").handshake()
    run.send("s2c", DATA[:200_000]).send("c2s", DATA[:100]).send("s2c", DATA[:50_000]).close()
    sizes = iter([1448] * 6 + [60_000, 1448, 14_000] * 1000)
    (connection,), plaintext = run_frames(
        frames(conversation(run.flights, cut=lambda: next(sizes))), run.keylog
    )
    check_app(plaintext, run)
    assert connection["offloaded"]
    assert connection["s2c"]["rx"]["reasons"]["oversize"] >= 4


def test_frames_without_a_byte():
    run = TlsRun("1.3", "aes128").handshake().send("s2c", DATA[:5000]).close()
    mixed = [f for frame in frames(conversation(run.flights)) for f in (b"", frame)] + [b""]
    (connection,), plaintext = run_frames(mixed, run.keylog)
    check_app(plaintext, run)
    assert connection["s2c"]["rx"]["records_full"] == 1


@pytest.mark.parametrize(
    "path",
    [
        Wire(),
        Wire(vlans=(5, 6)),
        Wire(Peer("fd00::2", 40000), Peer("fd00::1", 443)),
    ],
)
def test_checksums_that_the_sender_left_to_its_card(path):
    """Captured at the sender: the pseudo-header's sum alone stands in the field."""
    run = TlsRun("1.2", "aes128").handshake().send("s2c", DATA[:20_000]).send("c2s", DATA[:99])
    whole = frames(conversation(run.close().flights), path)
    left = [without_checksums(frame) for frame in whole]
    assert [fill_in(f, parse(f, HOST)) for f in left] == whole
    packets = captured(left)
    runner = Replay(ModelTransport(), Keylog.parse(run.keylog))
    runner.run(packets)
    check_app(runner.plaintext(), run)
    report = runner.report("made", "model")
    assert report["errors"] == [
        f"TCP checksums left to the sender's network card and filled in here: {len(left)}"
    ]
    assert report["connections"][0]["s2c"]["rx"]["records_full"] == 2


def test_other_checksums_stay_bad():
    run = TlsRun("1.3", "aes128").handshake()
    for segment in conversation(run.flights):
        frame = segment.frame(Wire(), bad_checksum=True)
        assert fill_in(frame, parse(frame, HOST)) is None


def test_what_a_capture_lacks_is_said():
    run = TlsRun("1.3", "aes128").handshake()
    sound = frames(conversation(run.flights))
    bad = [s.frame(Wire(), bad_checksum=True) for s in conversation(run.flights)]
    for all_frames, text in (
        (bad, f"TCP segments with bad checksums that belong to no connection: {len(bad)}"),
        ([f[:96] for f in sound], "packets cut short"),
    ):
        packets = [Packet(i, i / 1000, f, len(sound[i])) for i, f in enumerate(all_frames)]
        runner = Replay(ModelTransport(), Keylog.parse(run.keylog))
        runner.run(packets)
        errors = runner.report("made", "model")["errors"]
        assert len(errors) == 1 and text in errors[0]


def without_checksums(frame):
    """The frame as a stack gives it to a card that fills in checksums."""
    segment, out = read(frame), bytearray(frame)
    field = ones_complement_sum(segment.pseudo_header)
    out[segment.tcp_at + 16 : segment.tcp_at + 18] = field.to_bytes(2, "big")
    if segment.is_ipv4:
        out[segment.ip_at + 10 : segment.ip_at + 12] = b"\0\0"
    return bytes(out)


def short_run():
    """A connection that is left open."""
    return TlsRun("1.3", "aes128").handshake().send("c2s", DATA[:300]).send("s2c", DATA[:3000])


def wire(index: int) -> Wire:
    """A path of its own."""
    return Wire(Peer(f"10.9.1.{index + 1}", 40000 + index, index * 77777))


def reset(segments, direction):
    """The same with a reset by one side at the end."""
    behind = {
        w: max(s.offset + len(s.payload) for s in segments if s.direction == w) for w in DIRECTIONS
    }
    other = "s2c" if direction == "c2s" else "c2s"
    return [*segments, Segment(direction, behind[direction], b"", RST | ACK, behind[other])]


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_reset_gives_both_contexts_back(direction):
    runs = [short_run() for _ in range(5)]
    all_frames = [
        frame
        for i, run in enumerate(runs)
        for frame in frames(reset(conversation(run.flights, fin=False), direction), wire(i))
    ]
    connections, _ = run_frames(
        all_frames, "".join(run.keylog for run in runs), config=Config(flows=4)
    )
    assert [c["reason"] for c in connections] == [None] * 5
    assert all(c[w]["rx"]["records_full"] == 1 for c in connections for w in DIRECTIONS)


@pytest.mark.parametrize(
    ("close", "pause", "offloaded"),
    [
        (True, 0, 4),
        (False, 61, 4),
        (False, 0, 2),
    ],
)
def test_connections_without_an_end_make_room(close, pause, offloaded):
    """Closed by TLS, or silent for long; others keep their contexts."""
    runs = [short_run().close() if close else short_run() for _ in range(4)]
    packets = []
    for i, run in enumerate(runs):
        for frame in frames(conversation(run.flights, fin=False), wire(i)):
            time = i * pause + len(packets) / 1000
            packets.append(Packet(len(packets), time, frame, len(frame)))
    config = Config(flows=4)
    runner = Replay(
        ModelTransport(config), Keylog.parse("".join(r.keylog for r in runs)), config=config
    )
    runner.run(packets)
    plaintext = runner.plaintext()
    for i, run in enumerate(runs):
        check_app(plaintext, run, i)
    reasons = [c["reason"] for c in runner.report("made", "model")["connections"]]
    assert reasons[:offloaded] == [None] * offloaded
    assert all(reason.startswith("flow table full") for reason in reasons[offloaded:])


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_syn_behind_the_syn_ack(version):
    """Captures of several queues or interfaces swap neighbours."""
    run = TlsRun(version, "aes128").handshake().send("s2c", DATA[:9000]).close()
    sound = frames(conversation(run.flights))
    (connection,), plaintext = run_frames([sound[1], sound[0], *sound[2:]], run.keylog)
    check_app(plaintext, run)
    assert connection["offloaded"] and connection["reason"] is None
    assert connection["s2c"]["rx"]["records_full"] == 1


def test_syn_behind_the_first_bytes():
    """The beginning of the stream is a guess: software does it."""
    run = TlsRun("1.3", "aes128").handshake().send("s2c", DATA[:9000]).close()
    sound = frames(conversation(run.flights))
    (connection,), plaintext = run_frames([*sound[1:5], sound[0], *sound[5:]], run.keylog)
    check_app(plaintext, run)
    assert connection["reason"] == "no SYN in the capture"


@pytest.mark.parametrize(
    "flights",
    [
        [],
        [("c2s", b"GET / HTTP/1.1\r\n\r\n"), ("s2c", b"HTTP/1.1 200 OK\r\n\r\n" + DATA[:5000])],
        [("c2s", b"\x80\x2e\1\0\2" + DATA[:43])],  # a hello of SSL 2
    ],
)
def test_no_tls(flights):
    (connection,), plaintext = run_frames(
        frames(conversation(flights)), TlsRun("1.3", "aes128").handshake().keylog
    )
    assert connection["reason"] == "no ServerHello in the capture"
    assert connection["version"] is None and not connection["offloaded"]
    assert plaintext == {(0, "c2s"): b"", (0, "s2c"): b""}
