# SPDX-License-Identifier: Apache-2.0
"""The walker's gateware against its behavioural model, on random traffic."""

from collections import Counter

import pytest

from rtl_tests.walker.bench import Bench
from rtl_tests.walker.model import ACK, Item, ModelWalker
from rtl_tests.walker.scenarios import LONG, MIXED, SHORT, TINY, Scenario, TrafficProfile
from sealane.hdl.abi.commands import Op
from sealane.hdl.abi.config import Config
from sealane.hdl.abi.meta import Reason

SMALL = {"flows": 4, "ring_words": 256, "max_frame": 2048}
CONFIGS = {
    "default": Config(**SMALL),
    "least": Config(
        **SMALL, record_slots=1, runs=2, window=1 << 14, scan_limit=3000, rescan_limit=1,
        bad_header_limit=1, park_hold_len=17, ahead_limit=0,
    ),
    "narrow": Config(
        **SMALL, record_slots=2, runs=4, window=1 << 16, scan_limit=6000, rescan_limit=2,
        bad_header_limit=3, park_hold_len=40, ahead_limit=3000,
    ),
}  # fmt: skip
PROFILES = {
    "calm": TrafficProfile(loss=0.01, garbage=0, far=0, command=0.01, desync=0),
    "mixed": TrafficProfile(),
    "tiny": TrafficProfile(records=TINY, chains=0.1),
    "short": TrafficProfile(records=SHORT, loss=0.1, delay=0.3, overlap=0.15),
    "long": TrafficProfile(records=LONG, loss=0.1, delay=0.3, overlap=0.2),
    "rough": TrafficProfile(
        records=MIXED, bad_header=0.02, loss=0.1, garbage=0.1, far=0.05, right=0.3
    ),
}
SEEDS = (1, 3, 7)  # chosen so that the test below finds everything

# What one step may do to a flow: cause, state before, states after. A question mark: unproven.
TRANSITIONS = """
PACKET  start: start tracking searching searching? confirming confirming? given_up?
PACKET  tracking: tracking searching searching? confirming confirming? given_up?
PACKET  searching: searching confirming tracking given_up searching? confirming? given_up?
PACKET  searching?: searching? confirming? given_up?
PACKET  confirming: confirming searching tracking searching? given_up?
PACKET  confirming?: confirming? searching?
PACKET  given_up: given_up tracking
PACKET  given_up?: given_up?
RESYNC_ANSWER  start: start
RESYNC_ANSWER  tracking: tracking
RESYNC_ANSWER  searching: searching
RESYNC_ANSWER  searching?: searching?
RESYNC_ANSWER  confirming: tracking searching confirming
RESYNC_ANSWER  confirming?: tracking searching? confirming?
RESYNC_ANSWER  given_up: given_up
RESYNC_ANSWER  given_up?: given_up?
RESYNC_HINT  start: start
RESYNC_HINT  tracking: tracking
RESYNC_HINT  searching: start searching
RESYNC_HINT  searching?: start searching?
RESYNC_HINT  confirming: start
RESYNC_HINT  confirming?: start
RESYNC_HINT  given_up: start
RESYNC_HINT  given_up?: start given_up?
REKEY  start: start
REKEY  tracking: tracking start
REKEY  searching: searching start
REKEY  searching?: searching?
REKEY  confirming: confirming start
REKEY  confirming?: confirming?
REKEY  given_up: given_up
REKEY  given_up?: given_up?
DESYNC  start: searching? start
DESYNC  tracking: searching?
DESYNC  searching: searching?
DESYNC  searching?: searching?
DESYNC  confirming: confirming?
DESYNC  confirming?: confirming?
DESYNC  given_up: given_up?
DESYNC  given_up?: given_up?
PROVEN  tracking: tracking
PROVEN  confirming: confirming tracking
"""


def _name(state):
    return state[0].lower() + ("" if state[1] else "?")


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("profile", PROFILES)
def test_random_traffic(config, profile):
    """Spans, text spans, entries and evictions are those of the model, with and without stalls."""
    for seed in SEEDS:
        scenario = Scenario(CONFIGS[config], seed, PROFILES[profile])
        Bench(CONFIGS[config], seed, stall=0.0 if seed == 3 else 0.3).check(scenario.items)


def test_the_traffic_reaches_everything():
    """Every transition, reason, event and length of cut header occurs in the test above."""
    transitions, seen = set(), Counter()
    for config in CONFIGS.values():
        for profile in PROFILES.values():
            for seed in SEEDS:
                model = Scenario(config, seed, profile).model
                seen.update(model.seen)
                for cause, before, after in model.transitions:
                    transitions.add(f"{cause}  {_name(before)}: {_name(after)}")
    wanted = {
        f"{left}: {after}"
        for left, _, afters in (line.rpartition(": ") for line in TRANSITIONS.split("\n") if line)
        for after in afters.split()
    }
    assert wanted - transitions == set()
    walked = set(Reason) - {Reason.PARKED, Reason.TAG_MISMATCH, Reason.STALE_GENERATION}
    for what in (
        [f"reason {reason.name}" for reason in walked]
        + [f"{hold} {count}" for hold in ("hold", "cand_part_header") for count in range(13)]
        + ["RESUMED by SOFTWARE", "RESUMED by WALK", "RESUMED by TAG", "GIVEN_UP by NOTHING"]
        + [
            f"probe first {first} completes {completes}"
            for first in (False, True)
            for completes in (False, True)
        ]
        + [
            "RESYNC_REQUEST by NOTHING",
            "slots full",
            "holes full",
            "several holes",
            "evicted",
            "walk past the candidate",
            "two pieces of open records",
            "suspect",
            "ahead True",
            "ahead False",
        ]
    ):
        assert seen[what], what


class Script:
    """A few items on one flow, by hand."""

    def __init__(self, config):
        self.config = config
        self.model = ModelWalker(config)
        self.items = []

    def command(self, op, **fields):
        fields = {
            "op": op,
            "context": 0,
            "generation": 1,
            "epoch": 0,
            "version": 1,
            "key256": 0,
            "refused": 0,
            "park": 0,
            "seq": 0,
            "number": 0,
            "options": 0,
        } | fields
        return self._step(Item({"is_command": 1, "command": fields}))

    def packet(self, seq, payload):
        packet = {
            "ring_word": 3,
            "oversize": 0,
            "is_tcp": 1,
            "checksum_ok": 1,
            "seq": seq,
            "tcp_flags": ACK,
            "payload_offset": 54,
            "payload_length": len(payload),
        }
        fields = {"is_command": 0, "packet": packet, "hit": 1, "context": 0}
        return self._step(Item(fields, payload))

    def _step(self, item):
        self.items.append((item, self.model.step(item)))
        return self.items[-1][1]

    def check(self):
        Bench(self.config).check(self.items)


def record(length):
    """A TLS 1.3 record with a length field of `length`; no header in its text."""
    return bytes((23, 3, 3)) + length.to_bytes(2, "big") + bytes(length)


def test_record_far_behind_is_closed():
    """A record that never completed is closed before sequence numbers come round to it."""
    script = Script(CONFIGS["default"])
    base = 0xFFFFF000
    script.command(Op.CONTEXT_ADD, seq=base)
    script.packet(base, record(1000)[:500])
    script.packet((base + 600) % 2**32, record(1000)[600:])
    at = base
    for number in (10, 20, 30):
        at = (at + (1 << 30) - 20000) % 2**32
        script.packet(at, record(100) * 3)
        script.command(Op.RESYNC_ANSWER, seq=at, number=number)
    assert sum(expected.evicted for _, expected in script.items) == 1
    assert script.model.rows[0].slots == [None] * 5
    script.check()


def test_clocks_of_a_packet():
    """In sync a packet of 1448 bytes passes in fewer clocks than it has words."""
    config = CONFIGS["default"]
    for length, most in ((64, 95), (256, 40), (16000, 12)):
        script = Script(config)
        script.command(Op.CONTEXT_ADD, seq=0)
        stream = record(length) * (19 * 1448 // length + 1)
        for at in range(0, 19 * 1448, 1448):
            assert script.packet(at, stream[at : at + 1448]).entry["meta"]["reason"] == 0
        bench = Bench(config)
        clocks = [bench.give(item) for item, _ in script.items]
        assert max(clocks[1:]) <= most
    script = Script(config)
    script.command(Op.CONTEXT_ADD, seq=0)
    script.packet(0, b"")
    bench = Bench(config)
    assert [bench.give(item) for item, _ in script.items][1] <= 3
