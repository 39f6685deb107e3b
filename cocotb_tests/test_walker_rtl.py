# SPDX-License-Identifier: Apache-2.0
"""The walker's gateware against its behavioural model, on random traffic."""

from collections import Counter

import pytest
from sealane.hdl.abi.config import Config
from walker_bench import Bench
from walker_scenarios import LONG, MIXED, SHORT, TINY, Mood, Scenario

SMALL = {"flows": 4, "ring_words": 256, "max_frame": 2048}
CONFIGS = {
    "default": Config(**SMALL),
    "least": Config(
        **SMALL, record_slots=1, runs=2, window=1 << 14, scan_limit=3000, rescan_limit=1,
        bad_header_limit=1, park_hold_len=17,
    ),
    "narrow": Config(
        **SMALL, record_slots=2, runs=4, window=1 << 16, scan_limit=6000, rescan_limit=2,
        bad_header_limit=3, park_hold_len=40,
    ),
}  # fmt: skip
MOODS = {
    "calm": Mood(loss=0.01, garbage=0, far=0, command=0.01, desync=0),
    "mixed": Mood(),
    "tiny": Mood(records=TINY, chains=0.1),
    "short": Mood(records=SHORT, loss=0.1, delay=0.3, overlap=0.15),
    "long": Mood(records=LONG, loss=0.1, delay=0.3, overlap=0.2),
    "rough": Mood(records=MIXED, bad_header=0.02, loss=0.1, garbage=0.1, far=0.05, right=0.3),
}


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("mood", MOODS)
def test_random_traffic(config, mood):
    """Spans, text spans, entries and evictions are those of the model, with and without stalls."""
    for seed in range(4):
        scenario = Scenario(CONFIGS[config], seed, MOODS[mood])
        Bench(CONFIGS[config], seed, stall=0.0 if seed % 2 else 0.3).check(scenario.items)


def test_every_transition_occurs():
    """The traffic of the test above brings about all that the model can do."""
    transitions, seen = Counter(), Counter()
    for config in CONFIGS.values():
        for mood in MOODS.values():
            for seed in range(4):
                model = Scenario(config, seed, mood).model
                transitions.update(model.transitions)
                seen.update(model.seen)
    for line in sorted(transitions.items()):
        print(line)
    for line in sorted(seen.items()):
        print(line)
