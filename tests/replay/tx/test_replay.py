# SPDX-License-Identifier: Apache-2.0
"""What the captures' senders sent, through driver and device: byte for byte the captures."""

import functools

import pytest

from sealane.driver.ktls.tx.plan import TxMode, Way
from sealane.driver.ktls.tx.rekey import RekeyMode
from sealane.driver.replay.oracle import decode_capture
from sealane.driver.replay.tx.plain import PlainDirection
from tests.support.replays import NAMES, replay_named, truth_of
from tests.support.tx_replays import (
    CONFIG,
    DIRECTIONS,
    StrictTransport,
    all_identical,
    both_named,
    keylog_of,
    packets_of,
    tx_replay_named,
)

CLIENT, SERVER = "l3_tls12_aes128_loss3_cli", "l3_tls13_aes256_loss3_srv"
LOSSY = [(name, direction) for name in (CLIENT, SERVER) for direction in DIRECTIONS]
REFUSED = "c27_chacha_tls13"
KEY_UPDATES = "c37_tls13_keyupdate_corked"

# Segments in order, by seek, with tags, rebuilt; bytes replayed; retransmitted segments and bytes.
LOSS = {
    (CLIENT, "c2s"): ((263, 119, 19, 0), 0, (138, 185_460)),
    (CLIENT, "s2c"): ((208, 14, 3, 14), 20_111, (17, 24_415)),
    (SERVER, "c2s"): ((240, 18, 5, 12), 17_240, (23, 31_540)),
    (SERVER, "s2c"): ((235, 5, 4, 0), 0, (9, 11_799)),
}
# With a forced way: in order, by that way, and by others, which only seek and tag leave.
FORCED = {
    TxMode.REBUILD: {
        (CLIENT, "c2s"): (263, 138),
        (CLIENT, "s2c"): (208, 31),
        (SERVER, "c2s"): (240, 35),
        (SERVER, "s2c"): (235, 9),
    },
    TxMode.NEXT_RECORD: {
        (CLIENT, "c2s"): (218, 183),
        (CLIENT, "s2c"): (143, 96),
        (SERVER, "c2s"): (166, 109),
        (SERVER, "s2c"): (222, 22),
    },
    # A jump is never made good by software, so the device's stream waits for what never comes.
    TxMode.SOFTWARE: {
        (CLIENT, "c2s"): (263, 138),
        (CLIENT, "s2c"): (2, 237),
        (SERVER, "c2s"): (7, 268),
        (SERVER, "s2c"): (235, 9),
    },
}
# Bytes replayed: by `rebuild` of all records' beginnings and of jumps; by `next_record` only of the
# record that the first segment behind software's stretch begins in the middle of.
REREAD = {
    TxMode.REBUILD: {
        (CLIENT, "c2s"): 733_115,
        (CLIENT, "s2c"): 79_616 + 20_111,
        (SERVER, "c2s"): 118_098 + 17_240,
        (SERVER, "s2c"): 46_101,
    },
    TxMode.NEXT_RECORD: {
        (CLIENT, "c2s"): 5_981,
        (CLIENT, "s2c"): 10_668,
        (SERVER, "c2s"): 13_471,
        (SERVER, "s2c"): 1_202,
    },
    TxMode.SOFTWARE: dict.fromkeys(LOSSY, 0),
}


@functools.cache
def usual_replay(name):
    """A capture of the repository without any option."""
    return tx_replay_named(name)


@functools.cache
def records_of(name, direction):
    """The records of a direction, as its kernel made them."""
    (truth,) = decode_capture(packets_of(name), keylog_of(name))
    return PlainDirection(truth[direction]).records


def with_tag_bytes(segments, records):
    """Numbers of the packets whose segment has a byte of a tag."""
    tags = [(record.tag_start, record.end) for record in records]
    return {
        s.packet
        for s in segments
        if any(s.offset < end and start < s.offset + s.length for start, end in tags)
    }


def jumps(segments):
    """Numbers of the packets whose segment lies beyond all that was sent before, with a gap."""
    found, behind = set(), None
    for s in segments:
        if behind is not None and s.offset > behind:
            found.add(s.packet)
        behind = max(behind or 0, s.offset + s.length)
    return found


@pytest.mark.parametrize("name", NAMES)
def test_every_segment_is_identical(name):
    """Both directions of every capture, and nothing by software where a card may have the keys."""
    result = usual_replay(name)
    all_identical(result)
    for index, truth in enumerate(truth_of(name)["connections"]):
        connection = result.report["connections"][index]
        assert connection["offloaded"] == truth["offloadable"] == (connection["reason"] is None)
        for direction in DIRECTIONS:
            tx = connection[direction]["tx"]
            assert bool(tx["segments"]) == truth["offloadable"]
            assert tx["wire"] == tx["by_way"]["software"] == tx["by_way"]["next_record"] == 0
            if (name, direction) not in LOSSY:
                assert tx["by_way"]["in_order"] == tx["segments"]
            data = result.plaintext[index, direction]
            assert len(data) == (truth[direction]["app_bytes"] if truth["offloadable"] else 0)


@pytest.mark.parametrize("name, direction", LOSSY)
def test_ways_under_loss(name, direction):
    """Every retransmission by seek or with the tag that is known; only jumps replay anything."""
    result = usual_replay(name)
    counts, replayed, again = LOSS[name, direction]
    tx = result.tx(direction)
    assert tuple(tx["by_way"][w] for w in (Way.IN_ORDER, Way.SEEK, Way.TAG, Way.REBUILD)) == counts
    assert (tx["retransmitted"], tx["retransmitted_bytes"]) == again
    assert sum(tx["bus_bytes"]["reread_bytes"].values()) == replayed
    segments = result.outcomes(direction)
    tagged = with_tag_bytes(segments.values(), records_of(name, direction))
    jumped = jumps(segments.values())
    for packet, segment in segments.items():
        assert (segment.outcome == Way.REBUILD) == (packet in jumped)
        assert segment.outcome != (Way.SEEK if packet in tagged else Way.TAG)


@pytest.mark.parametrize("name", [CLIENT, SERVER])
@pytest.mark.parametrize("mode", [mode for mode in TxMode if mode is not TxMode.AUTO])
def test_forced_way(mode, name):
    """Identical by each way too. Seek cannot apply to segments with bytes of tags, tag cannot to
    those without, and neither can to a jump; the others apply to every segment out of order."""
    result = tx_replay_named(name, mode=mode)
    all_identical(result)
    assert result.report["tx_mode"] == mode
    usual = usual_replay(name)
    for direction in DIRECTIONS:
        segments = result.outcomes(direction)
        others = {p for p, s in segments.items() if s.outcome not in (Way.IN_ORDER, mode.value)}
        if mode in (TxMode.SEEK, TxMode.TAG):
            assert result.tx(direction) == usual.tx(direction)
            again = {p for p, s in segments.items() if s.outcome in (Way.SEEK, Way.TAG)}
            tagged = with_tag_bytes(segments.values(), records_of(name, direction)) & again
            cannot = tagged if mode is TxMode.SEEK else again - tagged
            assert others == cannot | jumps(segments.values())
        else:
            counts = result.tx(direction)["by_way"]
            assert (counts[Way.IN_ORDER], counts[mode.value]) == FORCED[mode][name, direction]
            assert others == set()
            bus = result.tx(direction)["bus_bytes"]
            assert sum(bus["reread_bytes"].values()) == REREAD[mode][name, direction]
            assert bool(bus["cpu_bytes"]) == (mode is not TxMode.REBUILD)


def test_key_updates_do_not_pause_the_device():
    """Forty key updates each way, several unacknowledged at once: all in order by the device."""
    result = usual_replay(KEY_UPDATES)
    for direction in DIRECTIONS:
        assert set(result.tx(direction)["by_way"].values()) == {result.tx(direction)["segments"], 0}
    counters = result.report["counters"]
    updates = sum(
        truth_of(KEY_UPDATES)["connections"][0][direction]["key_updates"]
        for direction in DIRECTIONS
    )
    assert counters["TlsTxRekeyOk"] == updates > 0 == counters["TlsTxRekeyError"]


def test_key_updates_by_gaps():
    """As Linux: software until all under the old key is acknowledged; identical all the same."""
    result = tx_replay_named(KEY_UPDATES, rekey=RekeyMode.GAP, ack_delay=0)
    all_identical(result)
    for direction in DIRECTIONS:
        counts = result.tx(direction)["by_way"]
        assert counts["in_order"] and counts["software"]
        assert counts["in_order"] + counts["software"] == result.tx(direction)["segments"]


@pytest.mark.parametrize("name, direction, dropped", [(CLIENT, "s2c", 1), (SERVER, "c2s", 7)])
def test_acknowledgements_that_come_too_early(name, direction, dropped):
    """The capture point sees an acknowledgement before the sender does: without a delay records
    are forgotten that come again. They are dropped and counted as Linux does."""
    result = tx_replay_named(name, ack_delay=0)
    tx = result.tx(direction)
    assert (tx["dropped"], tx["clear_bytes"]) == (dropped, 0)
    assert tx["reasons"] == {"tx_tls_drop_no_sync_data": dropped}
    assert tx["identical"] == tx["segments"] - dropped
    assert result.report["counters"]["tx_tls_drop_no_sync_data"] == dropped
    if name == SERVER:
        all_identical(tx_replay_named(name, ack_delay=0.005))


@pytest.mark.parametrize("delay", [1, 20, 100])
@pytest.mark.parametrize("name", [CLIENT, SERVER, KEY_UPDATES])
def test_late_completions(name, delay):
    """A tag that is not back yet: another way, never a guess."""
    result = tx_replay_named(name, completion_delay=delay)
    all_identical(result)
    if name != KEY_UPDATES:
        tags = [result.tx(direction)["by_way"]["tag"] for direction in DIRECTIONS]
        assert sum(tags) < sum(LOSS[name, direction][0][2] for direction in DIRECTIONS)


def test_a_device_is_used_whole():
    """The device's own counters agree with the report."""
    transport = StrictTransport(CONFIG)
    result = tx_replay_named(CLIENT, transport=transport)
    counts, netdev = transport.tx.counts, result.report["counters"]
    segments = sum(result.tx(direction)["segments"] for direction in DIRECTIONS)
    assert counts["tx_encrypted"] == netdev["tx_tls_encrypted_packets"] == segments
    assert counts["tx_dumped"] == netdev["tx_tls_dump_packets"]
    assert counts["tx_dropped"] == counts["tx_wire"] == 0
    packets = len(packets_of(CLIENT))
    assert counts["tx_frames"] == packets + counts["tx_dumped"]
    assert counts["tx_passed"] == packets - segments
    assert netdev["tx_tls_ooo"] == segments - sum(
        result.tx(direction)["by_way"]["in_order"] for direction in DIRECTIONS
    )


@pytest.mark.parametrize("name", [CLIENT, KEY_UPDATES])
def test_both_is_each_of_them(name):
    """Receive and transmit on one device: neither changes what the other comes to."""
    report, sent = both_named(name), usual_replay(name).report
    received = replay_named(StrictTransport(CONFIG), name).report
    assert (report["direction"], sent["direction"]) == ("both", "tx")
    for got, tx, rx in zip(
        report["connections"], sent["connections"], received["connections"], strict=True
    ):
        for direction in DIRECTIONS:
            assert got[direction] == {"rx": rx[direction]["rx"], "tx": tx[direction]["tx"]}
    packets = [event["packet"] for event in report["events"]]
    assert packets == sorted(packets)
    assert len(packets) == len(sent["events"]) + len(received["events"])
