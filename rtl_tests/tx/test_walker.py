# SPDX-License-Identifier: Apache-2.0
"""The transmit walker's gateware against its behavioural model on hostile traffic."""

import pytest

from rtl_tests.tx.walker_bench import Bench
from rtl_tests.tx.walker_scenarios import LONG, TINY, Scenario, TrafficProfile
from rtl_tests.tx.walker_script import CONFIG
from sealane.hdl.abi.config import Config
from sealane.hdl.abi.tx import TxCommand, TxReason

WIDE = Config(flows=64, ring_words=512, max_frame=2048, tx_flows=4, tx_ring_words=256)
PROFILES = {
    "calm": TrafficProfile(command=0.01, bad_byte=0, hostile=0, sync=0),
    "mixed": TrafficProfile(),
    "tiny": TrafficProfile(records=TINY, hostile=0.05, bad_byte=0.01),
    "long": TrafficProfile(records=LONG, detached=0.6),
    "rough": TrafficProfile(command=0.15, sync=0.15, bad_byte=0.15, hostile=0.3, other=0.2),
}
SEEDS = (1, 2, 7)


@pytest.mark.parametrize("profile", PROFILES)
def test_random_traffic(profile):
    """Spans, clear spans and entries are those of the model, with and without stalls."""
    for seed in SEEDS:
        scenario = Scenario(CONFIG, seed, PROFILES[profile])
        Bench(CONFIG, seed, stall=0.0 if seed == 2 else 0.3).check(scenario.items)


def test_more_contexts_of_receive():
    """Key rows and addresses where receive has the larger table and ring."""
    Bench(WIDE, stall=0.3).check(Scenario(WIDE, 4).items)


def test_the_traffic_reaches_everything():
    """Every action, reason, command and cut of a header occurs in `test_random_traffic`."""
    seen = set()
    for profile in PROFILES.values():
        for seed in SEEDS:
            seen |= Scenario(CONFIG, seed, profile).model.seen
    late = {TxReason.TAG_MISMATCH, TxReason.STALE_KEY, TxReason.DEVICE_ERROR}  # commit's
    midway = ("BAD_HEADER", "BAD_NONCE", "NO_KEY", "OUT_OF_ORDER")
    wanted = {f"DROP {r.name} without spans" for r in set(TxReason) - late - {TxReason.NONE}}
    wanted |= {f"DROP {name} with spans" for name in midway}
    wanted |= {f"{action} NONE with spans" for action in ("ENCRYPT", "DUMP")}
    wanted |= {f"{action} NONE without spans" for action in ("PASS", "ENCRYPT", "DUMP")}
    wanted |= {f"clear {count}" for count in range(1, 14)} | {f"held {n}" for n in range(5)}
    wanted |= {
        f"{what} {value}" for what in ("passed", "broken", "side row") for value in (False, True)
    }
    wanted |= {
        f"key slot {slot} first {first} side {detached}"
        for slot in (0, 1)
        for first in (False, True)
        for detached in (False, True)
    }
    wanted |= {
        op.name for op in TxCommand if op not in (TxCommand.TX_FLOW_WRITE, TxCommand.TX_RELEASE)
    }
    assert wanted - seen == set()
