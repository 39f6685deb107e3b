# SPDX-License-Identifier: Apache-2.0
"""AES blocks that a record costs the host, by the state in which the device passed its packets.

The numbers are written out for one record of 1,000 bytes. A meter at the cipher itself replaces the
`cryptography` package's entry points. It shows that nothing else went through AES.
"""

from __future__ import annotations

import random

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from sealane.driver.crypto import keys
from sealane.driver.ktls.rx.events import RecordRefused
from sealane.hdl.abi.config import VERSION_TLS12, VERSION_TLS13
from tests.support.ktls_rx_host import Host
from tests.support.marking_device import TRUTH, Belief, ranges, stream_of

VERSIONS = (VERSION_TLS12, VERSION_TLS13)
CUTS = (300, 600)
# Blocks of the text in the three packets: bytes [0, 287), [287, 587), [587, 1000) in TLS 1.2, whose
# prefix has 13 bytes; [0, 295), [295, 595), [595, 1001) in TLS 1.3, where the inner type counts.
BLOCKS = {VERSION_TLS12: (18, 20, 27), VERSION_TLS13: (19, 20, 26)}
OPEN = 63 + 1  # the complete text's and E(J0)
WRONG = Belief(number=1)


class Meter:
    """Counts blocks at the calls of the library that `driver.keys` makes."""

    def __init__(self, monkeypatch) -> None:
        self.blocks = 0
        meter = self

        class MeteredCipher(Cipher):
            def encryptor(self):
                inner = super().encryptor()

                class Encryptor:
                    @staticmethod
                    def update(data: bytes) -> bytes:
                        meter.blocks += (len(data) + 15) // 16
                        return inner.update(data)

                return Encryptor()

        class MeteredGcm:
            def __init__(self, key: bytes) -> None:
                self._inner = AESGCM(key)

            def decrypt(self, nonce: bytes, data: bytes, aad: bytes) -> bytes:
                meter.blocks += (len(data) - 16 + 15) // 16 + 1
                return self._inner.decrypt(nonce, data, aad)

        monkeypatch.setattr(keys, "Cipher", MeteredCipher)
        monkeypatch.setattr(keys, "AESGCM", MeteredGcm)


@pytest.fixture
def meter(monkeypatch) -> Meter:
    """Blocks that actually went through AES."""
    return Meter(monkeypatch)


def cost(stream, cuts, beliefs, meter: Meter, **kwargs) -> int:
    """Blocks that the host counted, which are those that the meter saw."""
    pieces = ranges(stream, cuts, beliefs)
    host = Host(stream, **kwargs)
    before = meter.blocks
    host.feed(*pieces)
    counted = host.rx.counters.aes_blocks
    assert counted == meter.blocks - before
    if not host.of(RecordRefused):
        assert host.app_data == stream.app_data
    return counted


@pytest.mark.parametrize("one_bit", (False, True))
@pytest.mark.parametrize("version", VERSIONS)
def test_blocks_of_one_record(version, one_bit, meter):
    stream = stream_of(version, 1000)
    first, middle, last = BLOCKS[version]

    def of(*beliefs) -> int:
        return cost(stream, CUTS, beliefs, meter, one_bit=one_bit)

    assert of(TRUTH, TRUTH, TRUTH) == 0
    assert of(None, None, None) == OPEN
    assert of(TRUTH, None, TRUTH) == OPEN + first + last
    assert of(None, TRUTH, TRUTH) == OPEN + middle + last
    assert of(None, TRUTH, None) == OPEN + middle


@pytest.mark.parametrize("version", VERSIONS)
def test_blocks_of_a_restored_packet(version, meter):
    """Wrongly framed: its text is encrypted again under its own framing, and the record opened."""
    stream = stream_of(version, 1000)
    first, middle, last = BLOCKS[version]
    assert cost(stream, CUTS, [None, WRONG, None], meter) == OPEN + middle
    assert cost(stream, CUTS, [TRUTH, WRONG, TRUTH], meter) == OPEN + first + middle + last
    no_verdict = Belief(verdict=False)
    assert cost(stream, CUTS, [TRUTH, TRUTH, no_verdict], meter) == OPEN + first + middle + last


@pytest.mark.parametrize("version", VERSIONS)
def test_a_packet_of_two_records_is_restored_for_the_mixed_one_only(version, meter):
    stream = stream_of(version, 1000, 1000)
    middle = len(stream.records[0].wire)
    cuts = [500, middle + 300, middle + 600]
    first, _, last = BLOCKS[version]
    assert cost(stream, cuts, [TRUTH, TRUTH, None, TRUTH], meter) == OPEN + first + last


@pytest.mark.parametrize("version", VERSIONS)
def test_a_packet_that_is_restored_as_a_whole_costs_each_record_once(version, meter):
    """Three records in one packet, a number too high: headers and texts are read in turn."""
    stream = stream_of(version, 1000, 0, 100)
    short = {VERSION_TLS12: 0, VERSION_TLS13: 1}[version]  # TLS 1.3: the inner type
    texts = 63 + short + 7
    assert cost(stream, [], [WRONG], meter) == texts + texts + 3


@pytest.mark.parametrize("version", VERSIONS)
def test_a_record_that_does_not_authenticate_costs_the_same(version, meter):
    stream = stream_of(version, 1000)
    stream.wire = stream.wire[:-1] + bytes([stream.wire[-1] ^ 1])
    assert cost(stream, CUTS, [None, None, None], meter) == OPEN
    assert cost(stream, CUTS, [TRUTH, None, None], meter) == OPEN + BLOCKS[version][0]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("one_bit", (False, True))
def test_every_marked_packet_of_a_mixed_record_costs(version, one_bit, meter):
    """A record of 16 KiB in 12 packets, one of them unmarked: marking none of them costs least."""
    stream = stream_of(version, 16384)
    cuts = range(1448, len(stream.wire), 1448)
    blocks = 1024 + (version == VERSION_TLS13) + 1
    none = cost(stream, cuts, [None] * 12, meter, one_bit=one_bit)
    assert none == blocks
    costs = [
        cost(stream, cuts, [None] + [TRUTH] * n + [None] * (11 - n), meter, one_bit=one_bit)
        for n in range(12)
    ]
    assert costs[0] == none
    assert all(low < high for low, high in zip(costs, costs[1:], strict=False))
    assert costs[11] == {VERSION_TLS12: 1970, VERSION_TLS13: 1971}[version]


def test_the_meter_agrees_on_any_cuts_and_marks(meter):
    for seed in range(60):
        rng = random.Random(seed)
        version = rng.choice(VERSIONS)
        stream = stream_of(version, *(rng.choice((0, 1, 16, 90, 700)) for _ in range(5)))
        cuts = sorted(rng.sample(range(1, len(stream.wire)), 8))
        one_bit = rng.random() < 0.5
        choices = (None, TRUTH, TRUTH) if one_bit else (None, TRUTH, WRONG, Belief(verdict=False))
        cost(stream, cuts, [rng.choice(choices) for _ in range(9)], meter, one_bit=one_bit)
