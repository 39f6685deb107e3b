# SPDX-License-Identifier: Apache-2.0
"""Replays of transmit on made-up traffic: what real captures do that the repository's do not."""

import random
from dataclasses import replace

import pytest

from sealane.driver.device.control import DeviceError
from sealane.driver.device.transport import TxOutput
from sealane.driver.ktls.tx.plan import TxMode
from sealane.driver.replay.capture import Packet
from sealane.driver.replay.oracle import decode_capture
from sealane.driver.tls.keylog import Keylog
from tests.support.replays import captured
from tests.support.sealed_streams import Sealer12, Tls13
from tests.support.tcp_frames import (
    ACK,
    DEFAULT,
    FIN,
    RST,
    Peer,
    Segment,
    Wire,
    conversation,
    frames,
    impair,
    random_cut,
    read,
)
from tests.support.tls_traffic import TlsRun, talk
from tests.support.tx_replays import (
    CONFIG,
    DATA,
    DIRECTIONS,
    StrictTransport,
    all_identical,
    app_is,
    long_run,
    tx_replay,
    tx_replay_frames,
)

SMALL = replace(CONFIG, flows=4, tx_flows=4)


@pytest.mark.parametrize("mode", list(TxMode))
@pytest.mark.parametrize("version", ["1.2", "1.3"])
@pytest.mark.parametrize("seed", range(2))
def test_lossy_paths(version, seed, mode):
    """Loss, reordering and duplicates with new cuts, wrapped sequence numbers, KeyUpdates."""
    chance = random.Random(seed)
    run = TlsRun(version, chance.choice(("aes128", "aes256"))).handshake()
    for _ in range(12):
        run.send(chance.choice(DIRECTIONS), chance.randbytes(chance.choice((0, 1, 100, 20000))))
        if version == "1.3" and chance.random() < 0.2:
            run.key_update(chance.choice(DIRECTIONS), chance.random() < 0.5)
    talk(run)
    path = replace(
        DEFAULT,
        client=Peer("fd00::2", 40000, 0xFFFFF000),
        vlans=(7,) * seed,
        server=Peer("fd00::1", 443, 3),
    )
    segments = impair(conversation(run.flights, path, random_cut(seed, 200)), seed, 0.1, 0.1, 0.1)
    result = tx_replay_frames(frames(segments, path), run.keylog, mode=mode, ack_delay=10)
    all_identical(result)
    app_is(result, run)
    assert all(result.tx(direction)["segments"] for direction in DIRECTIONS)


def test_renegotiation_goes_on_by_software():
    """TLS 1.2: no card gets the keys of a second handshake."""
    run = TlsRun("1.2").handshake().send("c2s", b"one" * 1000).renegotiate("c2s")
    run.send("c2s", b"two" * 1000).send("s2c", b"three" * 1000).close()
    result = tx_replay_frames(frames(conversation(run.flights)), run.keylog)
    all_identical(result)
    app_is(result, run)
    for direction in DIRECTIONS:
        counts = result.tx(direction)["by_way"]
        assert counts["in_order"] and counts["software"] and not result.tx(direction)["wire"]


@pytest.mark.parametrize("together", [False, True])
def test_padded_records(together):
    """TLS 1.3 with padding, empty records and KeyUpdates; of more than two epochs in one segment
    the device does not have all keys."""
    tls = Tls13(0x1302)
    flights = [
        tls.server.seal(bytes(size), 23, size % 40) + tls.server.key_update(size % 3)
        for size in (0, 1, 300, 0, 16000, 17)
    ]
    for data in [b"".join(flights)] if together else flights:
        tls.write("s2c", data)
    result = tx_replay_frames(frames(conversation(tls.flights)), tls.keylog_text)
    all_identical(result)
    counts = result.tx("s2c")["by_way"]
    if together:
        assert counts["software"]
    else:
        assert counts["in_order"] == result.tx("s2c")["segments"]
        assert result.report["counters"]["TlsTxRekeyOk"] == len(flights) - 1


@pytest.mark.parametrize("step", [1, 5])
def test_explicit_nonces_that_do_not_count_up(step):
    """TLS 1.2: such a sender stays in software, and says so; any other does not."""
    run = TlsRun("1.2", "aes128").handshake()
    flights, keylog = _with_nonces(run, step)
    result = tx_replay_frames(frames(conversation(flights)), keylog)
    all_identical(result)
    (connection,) = result.report["connections"]
    counts = result.tx("c2s")["by_way"]
    assert connection["offloaded"]
    assert connection["reason"] == (None if step == 1 else "explicit nonces do not count up")
    assert result.tx("c2s")["segments"] == counts["in_order" if step == 1 else "software"] > 5


@pytest.mark.parametrize("start", [7, (1 << 64) - 2])
@pytest.mark.parametrize("third", [0, 1, 2, 3, 1 << 40])
def test_explicit_nonces_that_stop_counting_up(third, start):
    """However late: a nonce that was given, one that is near, one that is far. Only the first
    record behind a second handshake may begin anew."""
    run = TlsRun("1.2", "aes128").handshake()
    flights, keylog = _with_nonces(run, 1, start, {2: third})
    result = tx_replay_frames(frames(conversation(flights)), keylog)
    all_identical(result)
    (connection,) = result.report["connections"]
    assert connection["reason"] == (None if third == 1 else "explicit nonces do not count up")
    counts = result.tx("c2s")["by_way"]
    assert result.tx("c2s")["segments"] == counts["in_order" if third == 1 else "software"] > 5


def _with_nonces(run, step, start=7, steps=()):
    """The run's flights, and records of the client whose nonce, first `start`, grows by `step`, or
    by what `steps` says for the number of the record behind."""
    (truth,) = decode_capture(captured(frames(conversation(run.flights))), Keylog.parse(run.keylog))
    install = truth["c2s"].installs[0]
    sealer = Sealer12(install.keys.key, install.keys.iv, start, install.number)
    data = b""
    for following, size in enumerate((100, 1, 5000, 0, 2000), 1):
        data += sealer.seal(DATA[:size])
        sealer.nonce += dict(steps).get(following, step) - 1
    return [*run.flights, ("c2s", data)], run.keylog


def test_a_bad_record_and_what_follows():
    """Nobody knows the plaintext: segments with bytes of it leave as they are."""
    tls = Tls13()
    bad = bytearray(tls.client.seal(DATA[:3000]))
    bad[-1] ^= 1
    good = tls.client.seal(DATA[:3000])
    tls.client.number -= 2
    tls.write("c2s", tls.client.seal(DATA[:3000]) + bytes(bad) + good)
    result = tx_replay_frames(frames(conversation(tls.flights)), tls.keylog_text)
    all_identical(result)
    tx = result.tx("c2s")
    assert tx["wire_reasons"] == {"unknown_plaintext": tx["wire"]}
    assert tx["wire"] and tx["by_way"]["in_order"] == tx["segments"] - tx["wire"] == 2


def test_foreign_and_damaged_segments():
    """Bytes that are not the stream's, a bad checksum, a keep-alive: sent as they are, and none of
    them moves what the driver knows."""
    run = long_run()
    segments = conversation(run.flights)
    data = [s for s in segments if s.direction == "c2s" and len(s.payload) > 1000]
    other = replace(data[5], payload=bytes(len(data[5].payload)))
    alive = replace(data[7], offset=data[7].offset + len(data[7].payload) - 1, payload=b"\0")
    made = []
    for s in segments:
        made.append(s.frame(DEFAULT))
        if s is data[9]:
            made += [
                other.frame(DEFAULT),
                alive.frame(DEFAULT),
                s.frame(DEFAULT, True),
                s.frame(DEFAULT),
            ]
    result = tx_replay_frames(made, run.keylog)
    all_identical(result)
    app_is(result, run)
    tx = result.tx("c2s")
    assert tx["wire_reasons"] == {"bad_checksum": 1, "foreign_bytes": 2}
    assert tx["retransmitted"] == tx["by_way"]["seek"] + tx["by_way"]["tag"] == 1


def test_the_handshake_comes_again():
    """Bytes from before the start marker are software's; a segment over the marker too."""
    run = long_run()
    segments = conversation(run.flights)
    first = next(s for s in segments if s.direction == "c2s" and len(s.payload) == DEFAULT.mss)
    at = segments.index(first)
    before = [s for s in segments[:at] if s.direction == "c2s" and s.payload][-1]
    over = replace(before, payload=before.payload + first.payload[:40])
    again = [*segments[: at + 1], before, over, *segments[at + 1 :]]
    result = tx_replay_frames(frames(again), run.keylog)
    all_identical(result)
    assert result.tx("c2s")["wire_reasons"] == {"before_marker": 2}
    counters = result.report["counters"]
    assert counters["tx_tls_skip_no_sync_data"] == 1  # the other one has bytes behind the marker
    assert (counters["tx_tls_ooo"], counters["tx_tls_drop_bypass_req"]) == (2, 0)


def with_long_frame(damaged):
    """The frames of a run of which one is longer than the device takes, and its key log."""
    run = long_run()
    sizes = iter([1448] * 12 + [12_000] + [1448] * 1000)
    segments = conversation(run.flights, cut=lambda: next(sizes))
    long = max(segments, key=lambda s: len(s.payload))
    assert len(long.frame(DEFAULT)) > CONFIG.max_frame
    return [s.frame(DEFAULT, damaged and s is long) for s in segments], run


def test_frames_longer_than_the_device_takes():
    """As TCP hands them down where segmentation offload is on: cut in front of the device."""
    made, run = with_long_frame(False)
    result = tx_replay_frames(made, run.keylog)
    assert [e.split(":")[-1] for e in result.report["errors"]] == [" 1", " 8 more"]
    result.report["errors"].clear()
    all_identical(result)
    app_is(result, run)
    tx = result.tx("c2s")
    assert tx["by_way"]["in_order"] == tx["segments"] > 8


def test_damaged_frames_longer_than_the_device_takes():
    """Nothing is sure of a bad checksum: dropped and counted."""
    made, run = with_long_frame(True)
    result = tx_replay_frames(made, run.keylog)
    tx = result.tx("c2s")
    assert tx["reasons"] == {"oversize": 1}
    assert tx["identical"] == tx["segments"] - 1


def test_more_connections_than_contexts():
    """Old connections make room; where none can, software sends, and the report says why."""
    made, logs = [], []
    for i in range(6):
        run = TlsRun("1.3", "aes128").handshake().send("c2s", DATA[:3000])
        closed = i < 3
        if closed:
            run.close()
        path = Wire(client=Peer("10.9.0.2", 40000 + i, 7 * i))
        made += frames(conversation(run.flights, path, fin=closed), path)
        logs.append(run.keylog)
    result = tx_replay_frames(made, "".join(logs), config=SMALL)
    all_identical(result)
    connections = result.report["connections"]
    assert [c["offloaded"] for c in connections] == [True] * 5 + [False]
    assert "full" in connections[5]["reason"]
    assert result.tx("c2s", 5)["by_way"]["software"] == result.tx("c2s", 5)["segments"] > 0
    assert result.report["counters"]["tx_tls_del"] == 6


@pytest.mark.parametrize("silent", [False, True])
def test_connections_that_fell_silent(silent):
    """A capture need not hold a connection's end: a minute without a packet frees its contexts."""
    packets, logs = [], []
    for i in range(4):
        run = TlsRun("1.3", "aes128").handshake().send("c2s", DATA[:3000])
        path = Wire(client=Peer("10.9.0.2", 40000 + i, 7 * i))
        made = frames(conversation(run.flights, path, fin=False), path)
        start = i * (31 if silent else 5)
        packets += [
            Packet(len(packets) + n, start + n / 1000, f, len(f)) for n, f in enumerate(made)
        ]
        logs.append(run.keylog)
    result = tx_replay(packets, Keylog.parse("".join(logs)), config=SMALL)
    all_identical(result)
    offloaded = [c["offloaded"] for c in result.report["connections"]]
    assert offloaded == [True, True, silent, silent]


def test_fin_with_data():
    """The last segment has data and FIN: encrypted, and its flags stay."""
    run = long_run()
    segments = conversation(run.flights, fin=False)
    last = [s for s in segments if s.direction == "c2s" and s.payload][-1]
    at = segments.index(last)
    segments[at] = replace(last, flags=last.flags | FIN)
    result = tx_replay_frames(frames(segments), run.keylog)
    all_identical(result)
    app_is(result, run)
    assert result.tx("c2s")["by_way"]["in_order"] == result.tx("c2s")["segments"]


def test_nothing_at_all():
    """No packet, no connection."""
    result = tx_replay([], Keylog.parse("# none\n"))
    assert (result.report["connections"], result.report["errors"]) == ([], [])


def test_ports_used_again():
    """A later connection of the same addresses and ports: the former one's context goes."""
    made, logs, runs = [], [], []
    for i in range(3):
        runs.append(run := long_run(("1.2", "1.3", "1.3")[i], ("aes256", "aes128", "chacha")[i]))
        path = Wire(client=Peer("10.9.0.2", 40000, 1_000_000_000 * (i + 1)))
        made += frames(conversation(run.flights, path), path)
        logs.append(run.keylog)
    result = tx_replay_frames(made, "".join(logs), config=SMALL)
    all_identical(result)
    assert [c["offloaded"] for c in result.report["connections"]] == [True, True, False]
    for i in range(2):
        app_is(result, runs[i], i)
    assert result.report["counters"]["TlsCurrTxDevice"] == 0


def test_a_reset_ends_it():
    """What still comes behind a reset has no context any more and is software's."""
    run = long_run()
    segments = [s for s in conversation(run.flights, fin=False)]
    sent = sum(len(s.payload) for s in segments if s.direction == "s2c")
    reset = Segment("s2c", sent, flags=RST | ACK)
    late = [s for s in segments if s.direction == "c2s" and s.payload][-3:]
    result = tx_replay_frames(frames([*segments, reset, *late]), run.keylog)
    all_identical(result)
    assert result.report["counters"]["tx_tls_del"] == 2
    assert result.tx("c2s")["by_way"]["software"] == len(late)


@pytest.mark.parametrize("keylog", ["", "CLIENT_RANDOM " + "00" * 32 + " " + "11" * 48 + "\n"])
def test_no_secrets(keylog):
    """Nothing is offloaded, and every frame leaves as it came."""
    run = long_run()
    result = tx_replay_frames(frames(conversation(run.flights)), "# none\n" + keylog)
    all_identical(result)
    (connection,) = result.report["connections"]
    assert not connection["offloaded"] and connection["reason"]
    assert result.tx("c2s")["segments"] == 0


def test_no_syn():
    """A connection that began before the capture is not offloaded."""
    run = long_run()
    result = tx_replay_frames(frames(conversation(run.flights, syn=False)), run.keylog)
    all_identical(result)
    (connection,) = result.report["connections"]
    assert (connection["offloaded"], connection["reason"]) == (False, "no SYN in the capture")


def test_frames_of_nobody():
    """ARP, an empty frame, fragments of other hosts, link padding: unchanged, in place."""
    run = long_run()
    made = frames(conversation(run.flights))
    arp = b"\xff" * 6 + bytes(6) + b"\x08\x06" + bytes(46)
    noise = [arp, b"", b"\1", bytes(2000)]
    mixed = [frame for pair in zip(made, noise * len(made), strict=False) for frame in pair]
    result = tx_replay_frames(mixed, run.keylog)
    all_identical(result)
    app_is(result, run)


# --- the comparison bites -------------------------------------------------------------------------


class Leaky(StrictTransport):
    """A device that sends the host's own frames, with the checksums of the encrypted ones."""

    def __init__(self, config):
        super().__init__(config)
        self.posted = []

    def post_tx(self, frame, meta):
        self.posted.append(frame)
        super().post_tx(frame, meta)

    def poll_tx(self, wait=True):
        out = super().poll_tx(wait)
        posted, self.posted = self.posted, []
        return TxOutput(posted, out.completions)


def test_a_leak_is_counted():
    """Every byte of text that leaves as the host gave it, but those that are equal by chance."""
    run = TlsRun("1.3", "aes128").handshake().send("c2s", DATA[:20_000])
    made = frames(conversation(run.flights))
    result = tx_replay_frames(made, run.keylog, transport=Leaky(CONFIG))
    tx = result.tx("c2s")
    assert tx["identical"] == 0 < tx["segments"]
    text = 20_000 + 2  # two records, an inner type each
    by_chance = text - tx["clear_bytes"]
    assert 0 < by_chance < text // 100


class Spoilt(StrictTransport):
    """A device that changes one byte of every encrypted frame, `at` bytes from its end."""

    at = 1

    def poll_tx(self, wait=True):
        out = super().poll_tx(wait)
        frames_ = [
            f[: -self.at] + bytes([f[-self.at] ^ 1]) + f[len(f) - self.at + 1 :]
            if len(read(f).payload) > 1000
            else f
            for f in out.frames
        ]
        return out._replace(frames=frames_)


def test_a_changed_byte_is_noticed():
    run = long_run()
    made = frames(conversation(run.flights))
    result = tx_replay_frames(made, run.keylog, transport=Spoilt(CONFIG))
    long = sum(s.length > 1000 for s in result.trace)
    for_all = sum(
        result.tx(direction)["segments"] - result.tx(direction)["identical"]
        for direction in DIRECTIONS
    )
    assert for_all == long > 10
    # By chance, one time in 256, the changed byte is the plaintext's.
    assert sum(result.tx(direction)["clear_bytes"] for direction in DIRECTIONS) < long / 2


def test_a_device_error_drops_and_is_counted():
    """Writes that are lost in the device: the frame does not leave, the rest does."""
    run = long_run()
    transport = StrictTransport(CONFIG)
    seen = []
    post = transport.post_tx

    def failing(frame, meta):
        if len(read(frame).payload) > 1000:
            seen.append(frame)
            if len(seen) == 8:
                transport.tx.fail_next(3)
        post(frame, meta)

    transport.post_tx = failing
    result = tx_replay_frames(frames(conversation(run.flights)), run.keylog, transport=transport)
    tx = result.tx("c2s")
    assert tx["reasons"] == {"device_error": 1} and tx["clear_bytes"] == 0
    assert tx["identical"] == tx["segments"] - 1


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda frames_: frames_[:-1], "did not come out"),
        (lambda frames_: [*frames_, b"more"], "was not sent"),
    ],
)
def test_frames_that_are_lost_or_made_up(change, words):
    """A device whose completions do not fit what came out."""

    class Miscounts(StrictTransport):
        def poll_tx(self, wait=True):
            out = super().poll_tx(wait)
            return out._replace(frames=change(out.frames))

    run = long_run()
    with pytest.raises(DeviceError, match=words):
        tx_replay_frames(frames(conversation(run.flights)), run.keylog, transport=Miscounts(CONFIG))


def test_a_changed_foreign_frame_is_said():
    """Frames without text must not change either."""

    class Changed(StrictTransport):
        def poll_tx(self, wait=True):
            out = super().poll_tx(wait)
            return out._replace(frames=[bytes([f[0] ^ 2]) + f[1:] for f in out.frames])

    run = long_run()
    made = frames(conversation(run.flights))
    result = tx_replay_frames(made, run.keylog, transport=Changed(CONFIG))
    assert len(result.report["errors"]) == len(made) - len(result.trace)
    assert all("left changed" in error for error in result.report["errors"])
