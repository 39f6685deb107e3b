# SPDX-License-Identifier: Apache-2.0
"""Replays of captures as they come from real machines and from people who mean harm.

The judge is what the two ends gave to TLS, never the replay's own software decryption.
"""

import random

import pytest
from sealane.driver.capture import Packet
from sealane.driver.keylog import Keylog
from sealane.driver.model.device import ModelTransport
from sealane.driver.replay import Replay

from tests.replays import WAYS, check_direction
from tests.tcp_frames import conversation, frames
from tests.tls_traffic import TlsRun

DATA = random.Random(7).randbytes(1 << 20)


class StrictTransport(ModelTransport):
    """Refuses what no wire carries, as the simulated device does."""

    def post(self, frame: bytes) -> None:
        assert frame
        super().post(frame)


def run_frames(all_frames, keylog, **options):
    """Frames through a model; returns the report's connections and the plaintext."""
    packets = [Packet(i, i / 1000, f, len(f)) for i, f in enumerate(all_frames)]
    runner = Replay(StrictTransport(), Keylog.parse(keylog), **options)
    runner.run(packets)
    report, plaintext = runner.report("made", "model"), runner.plaintext()
    assert not report["errors"]
    for connection in report["connections"]:
        for way in WAYS:
            check_direction(connection[way]["rx"], plaintext[connection["index"], way])
    return report["connections"], plaintext


def check_app(plaintext, run, index=0):
    """What the two ends of `run` gave to TLS was recovered."""
    for way in WAYS:
        assert plaintext[index, way] == run.app[way]


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
