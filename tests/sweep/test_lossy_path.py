# SPDX-License-Identifier: Apache-2.0
"""The measurement behind `sealane sweep`: the path, the in-order device, a connection's counts."""

import random
from itertools import pairwise

import pytest

from sealane.driver.device.rx import Device
from sealane.driver.model.device import ModelTransport
from sealane.driver.sweep.in_order import InOrderDevice
from sealane.driver.sweep.lossy_path import Connection, Path, Sender, SweepError, in_order
from sealane.hdl.abi.config import VERSION_TLS12, VERSION_TLS13, Config
from tests.support import tls_records
from tests.support.tcp_frames import read

FOUR_EIGHT = Config(record_slots=4, runs=8)


def run(path, records, config=FOUR_EIGHT, connection=0):
    return Connection(Device(ModelTransport(config), config), path, connection, records).run()


# --- the path -----------------------------------------------------------------------------------


def order(path, count):
    return list(path.arrivals(range(count), path.randomness(0)))


def test_nothing_happens_on_a_good_path():
    assert order(Path(), 500) == list(range(500))


@pytest.mark.parametrize(
    "path",
    [
        Path(loss=5),
        Path(reorder=20),
        Path(loss=3, reorder=10, window=7, displace=2),
        Path(loss=100),
    ],
)
def test_every_segment_arrives_once(path):
    assert sorted(order(path, 5000)) == list(range(5000))


def test_a_lost_segment_comes_again_a_window_later():
    path = Path(loss=1)
    places = {segment: place for place, segment in enumerate(order(path, 50_000))}
    highest = -1
    late = []
    for segment in order(path, 50_000):
        if segment < highest:
            late.append(segment)
        highest = max(highest, segment)
    assert 400 < len(late) < 600
    # Another retransmission may come in between, or a segment of the window may be lost itself.
    assert all(60 <= places[s] - s <= 68 for s in late if s < 49_900)


def test_late_segments_are_late_by_their_bound():
    path = Path(reorder=20, displace=8)
    moved = 0
    for place, segment in enumerate(order(path, 20_000)):
        # What is early was overtaken by none, and stands in front of those that are late.
        assert -8 <= place - segment <= 8
        moved += place != segment
    assert moved > 20_000 * 0.2


def test_arrivals_depend_on_path_and_seed_only():
    assert order(Path(loss=2), 3000) == order(Path(loss=2, answer_delay=16), 3000)
    assert order(Path(loss=2), 3000) != order(Path(loss=2, seed=2), 3000)


@pytest.mark.parametrize(
    "wrong",
    [
        {"loss": -1},
        {"loss": 101},
        {"reorder": float("nan")},
        {"mss": 0},
        {"mss": 9000},
        {"record_bytes": 16385},
        {"window": 0},
        {"displace": 0},
        {"answer_delay": -1},
    ],
)
def test_paths_that_make_no_sense(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong)).replace("_", "-")):
        Path(**wrong)


@pytest.mark.parametrize("version", [VERSION_TLS12, VERSION_TLS13])
def test_the_sender_cuts_and_frames(version):
    path = Path(version=version, record_bytes=3000, mss=1001)
    sender = Sender(path, 1, 20)
    stream, flow = b"", sender.flow
    for seq, payload in sender.segments():
        assert seq == (sender.isn + len(stream)) % 2**32
        segment = read(sender.frame(seq, payload))
        assert segment.ip_checksum_ok and segment.tcp_checksum_ok and segment.seq == seq
        assert segment.pseudo_header[:8] == flow.src.packed + flow.dst.packed
        ports = flow.sport.to_bytes(2, "big") + flow.dport.to_bytes(2, "big")
        assert segment.frame[segment.tcp_at :][:4] == ports
        assert segment.payload == payload
        stream += payload
    assert len(stream) == 20 * path.wire_bytes
    for number, plain in enumerate(sender.sealed):
        record = stream[number * path.wire_bytes :][: path.wire_bytes]
        assert int.from_bytes(record[3:5], "big") == path.wire_bytes - 5
        text = plain + b"\x17" * (version == VERSION_TLS13)
        explicit = record[5:13] if version == VERSION_TLS12 else b""
        key, iv = sender.info.key, sender.info.iv
        assert record == tls_records.seal(version, key, iv, number, 23, text, explicit)


# --- the in-order device --------------------------------------------------------------------------


class Pictures:
    """Records of 100 bytes; segments are given as bounds."""

    def __init__(self):
        self.device = InOrderDevice(100, VERSION_TLS12)

    def __call__(self, *bounds):
        return [self.device.segment(start, end) for start, end in bounds]


def test_in_order_all_is_decrypted():
    assert all(Pictures()(*((at, at + 30) for at in range(0, 3000, 30))))


def test_a_hole_without_a_header_costs_its_record_and_the_next_ones_beginning():
    """The document's first figure: 2 is late; 3, with the next header, and 2 pass untouched."""
    got = Pictures()((0, 40), (80, 120), (120, 160), (160, 200), (40, 80), (200, 240))
    assert got == [True, False, True, True, False, True]


def test_a_segment_that_begins_at_a_header_is_decrypted_behind_a_hole():
    assert Pictures()((0, 40), (80, 100), (100, 140), (40, 80)) == [True, False, True, False]


def test_a_lost_header_that_comes_before_the_next_one_passes():
    """Records go on behind it: those with bytes that passed meanwhile are not whole."""
    got = Pictures()((0, 80), (120, 160), (80, 120), (160, 190), (190, 240), (240, 280))
    assert got == [True, False, True, False, False, True]


def test_a_lost_header_that_comes_too_late():
    """The document's second figure: sync is lost, and only the driver can give it back."""
    picture = Pictures()
    assert picture((0, 80), (120, 190), (190, 240), (80, 120)) == [True, False, False, True]
    assert not any(picture(*((at, at + 50) for at in range(240, 40_240, 50))))
    assert picture.device.candidate is not None


def test_scan_chain_and_confirmation():
    """Behind the longest record the scan begins; the confirmed chain was counted on."""
    picture = Pictures()
    assert picture((0, 80)) == [True]
    assert not any(picture(*((at, at + 50) for at in range(120, 16_520, 50))))
    assert picture.device.candidate == 16_500
    assert not any(picture((16_520, 16_590)))
    picture.device.confirm(16_400)  # not what was asked
    assert not any(picture((16_590, 16_640)))
    picture.device.confirm(16_500)
    assert picture.device.candidate is None
    assert picture((16_640, 16_690), (16_690, 16_710), (16_710, 16_790)) == [False, False, True]


def test_a_header_lost_in_the_chain_starts_the_scan_again():
    picture = Pictures()
    picture((0, 80), *((at, at + 50) for at in range(120, 16_620, 50)))
    assert picture.device.candidate == 16_500
    picture((16_620, 16_690), (16_710, 16_720))
    assert picture.device.candidate is None
    picture((16_720, 16_820))
    assert picture.device.candidate == 16_800


def test_in_order_device_on_any_path():
    """No record is whole unless its segments came one behind the other, the one in front too."""
    rng = random.Random(1)
    for _ in range(20):
        path = Path(
            loss=rng.choice((0, 1, 5, 20)),
            reorder=rng.choice((0, 3, 20)),
            mss=300,
            record_bytes=rng.choice((200, 1000, 3000)),
            window=rng.choice((3, 64)),
        )
        counts = in_order(path, 0, 200)
        assert counts.records == 200 == counts.whole + counts.partial + counts.none
        in_row, bounds = 0, list(path.segments(200))
        places = {s: i for i, s in enumerate(path.arrivals(iter(bounds), path.randomness(0)))}
        for number in range(200):
            start, end = number * path.wire_bytes, (number + 1) * path.wire_bytes
            mine = [places[s] for s in bounds if s[0] < end and s[1] > start]
            in_row += all(b == a + 1 for a, b in pairwise(mine))
        assert counts.whole <= in_row


# --- connections ----------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [VERSION_TLS12, VERSION_TLS13])
def test_all_whole_in_order(version):
    for connection in (0, 1):
        counts = run(Path(version=version), 30, connection=connection)
        assert (counts.records, counts.whole, counts.wrong_marks) == (30, 30, 0)
    assert in_order(Path(version=version), 0, 30).whole == 30


@pytest.mark.parametrize(
    "path",
    [
        Path(loss=5),
        Path(reorder=20),
        Path(loss=5, reorder=20, version=VERSION_TLS12),
        Path(loss=10, record_bytes=100),
        Path(loss=30, answer_delay=0, record_bytes=2000),
    ],
)
def test_bad_paths_lose_nothing(path):
    counts = run(path, 120)
    assert counts.records == 120 == counts.whole + counts.partial + counts.none
    assert counts.wrong_marks == 0
    assert run(path, 120) == counts


def test_sequence_numbers_wrap_on_the_way():
    path = Path(loss=2)
    assert Sender(path, 0, 1).isn + 120 * path.wire_bytes > 1 << 32
    assert run(path, 120).whole > 80


class OneBitWrong(ModelTransport):
    """A device that marks what it decrypted wrongly."""

    def poll(self, wait=True):
        return [
            c._replace(frame=c.frame[:-40] + bytes([c.frame[-40] ^ 1]) + c.frame[-39:])
            for c in super().poll(wait)
        ]


def test_wrong_marks_are_counted():
    config = FOUR_EIGHT
    counts = Connection(Device(OneBitWrong(config), config), Path(), 0, 5).run()
    assert counts.wrong_marks == counts.whole == 5


class Unmarked(OneBitWrong):
    """A device that changes packets and says nothing."""

    def write(self, address, value):
        pass


def test_changed_packets_without_a_mark_are_said():
    with pytest.raises(SweepError, match="not marked"):
        Connection(Device(Unmarked(FOUR_EIGHT), FOUR_EIGHT), Path(), 0, 5).run()


def test_order_free_decryption_pays():
    """The shares over many records are in the documentation; here their order of size."""
    counts, compared = run(Path(loss=2), 400), in_order(Path(loss=2), 0, 400)
    assert counts.whole > 320 > 240 > compared.whole > 180
