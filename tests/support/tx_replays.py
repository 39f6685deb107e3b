# SPDX-License-Identifier: Apache-2.0
"""Transmit replays for tests: captures, made-up traffic and checks for any of them."""

import json
import random
from dataclasses import dataclass, replace

from sealane.driver.ktls.tx.plan import Way
from sealane.driver.model.device import ModelTransport
from sealane.driver.replay.both import ReplayBoth
from sealane.driver.replay.capture import read_capture
from sealane.driver.replay.rx.replay import Replay
from sealane.driver.replay.tx.replay import TxReplay, TxTrace
from sealane.driver.tls.keylog import Keylog
from sealane.hdl.abi.config import Config
from tests.support.replays import CAPTURES, captured
from tests.support.tls_traffic import TlsRun

DIRECTIONS = ("c2s", "s2c")
CONFIG = replace(Config(), tx_flows=Config().flows)


DATA = random.Random(11).randbytes(1 << 18)


class StrictTransport(ModelTransport):
    """Refuses frames that no wire carries and those that the device was not built for."""

    def post_tx(self, frame: bytes, meta: int) -> None:
        assert 0 < len(frame) <= self.config.max_frame
        super().post_tx(frame, meta)


@dataclass
class Result:
    """The result of a replay."""

    report: dict
    trace: list[TxTrace]
    plaintext: dict

    def tx(self, direction: str, index: int = 0) -> dict:
        return self.report["connections"][index][direction]["tx"]

    def outcomes(self, direction: str, index: int = 0) -> dict[int, TxTrace]:
        """The segments of a direction by packet number."""
        return {
            s.packet: s for s in self.trace if (s.connection, s.direction) == (index, direction)
        }


def tx_replay(packets, keylog, transport=None, engine="model", config=CONFIG, **options):
    """Replays packets through transmit and makes the checks for every replay."""
    runner = TxReplay(transport or StrictTransport(config), keylog, config, **options)
    runner.run(packets)
    result = Result(
        json.loads(json.dumps(runner.report("x", engine))), runner.trace, runner.plaintext()
    )
    check_any(result)
    return result


def packets_of(name):
    return read_capture(CAPTURES / f"{name}.pcap.gz").packets


def keylog_of(name):
    return Keylog.read(CAPTURES / f"{name}.keys")


def tx_replay_named(name, **options):
    """Replays one of the captures of the repository."""
    return tx_replay(packets_of(name), keylog_of(name), **options)


def tx_replay_frames(all_frames, keylog, **options):
    """Made-up frames, one per millisecond."""
    return tx_replay(captured(all_frames), Keylog.parse(keylog), **options)


def both_named(name, **options):
    """Receives and transmits at once, and returns the report."""
    transport = StrictTransport(CONFIG)
    keylog = keylog_of(name)
    runner = ReplayBoth(
        Replay(transport, keylog, config=CONFIG), TxReplay(transport, keylog, CONFIG, **options)
    )
    runner.run(packets_of(name))
    return json.loads(json.dumps(runner.report(name, "model")))


def check_any(result):
    """Checks that apply to any direction of any replay on a device that works."""
    for connection in result.report["connections"]:
        for direction in DIRECTIONS:
            tx = connection[direction]["tx"]
            assert list(tx["by_way"]) == [w.value for w in Way]
            encrypted = sum(tx["by_way"].values())
            assert tx["segments"] == tx["wire"] + encrypted + tx["dropped"]
            assert tx["wire"] == sum(tx["wire_reasons"].values())
            assert tx["dropped"] == sum(tx["reasons"].values())
            index = connection["index"]
            traced = [s for s in result.trace if (s.connection, s.direction) == (index, direction)]
            assert len(traced) == tx["segments"]
            assert sum(s.identical for s in traced) == tx["identical"]
            for w in Way:
                assert sum(s.outcome == w.value for s in traced) == tx["by_way"][w.value]


def all_identical(result):
    """Checks that everything was sent, as in the capture."""
    assert result.report["errors"] == []
    for connection in result.report["connections"]:
        for direction in DIRECTIONS:
            tx = connection[direction]["tx"]
            assert tx["identical"] == tx["segments"]
            assert tx["dropped"] == tx["clear_bytes"] == tx["tag_mismatch"] == 0


def app_is(result, run, index=0):
    """Checks that what the two ends gave to TLS went through transmit."""
    for direction in DIRECTIONS:
        assert result.plaintext[index, direction] == run.app[direction]


def long_run(version="1.3", suite="aes128"):
    """A connection with much data both ways."""
    run = TlsRun(version, suite).handshake()
    run.send("c2s", DATA[:60_000]).send("s2c", DATA[:30_000]).send("c2s", DATA[:700])
    return run.close()
