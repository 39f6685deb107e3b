# SPDX-License-Identifier: Apache-2.0
"""The transmit walker's gateware: by hand, and against its behavioural model on hostile traffic."""


import pytest
from sealane.driver.model.parser import ACK, Parsed
from sealane.driver.seq import add
from sealane.hdl import layouts as rx
from sealane.hdl import tx_layouts as tx
from sealane.hdl.abi.config import Config
from sealane.hdl.abi.tx import TX_COMMAND, TX_META, TxCommand, TxOp, TxReason
from tx_walker_bench import Bench, Expected, Item, Model
from tx_walker_scenarios import LONG, TINY, Mood, Scenario

CONFIG = Config(flows=4, ring_words=256, max_frame=2048, tx_flows=8, tx_ring_words=256)
MARKER = 0xFFFFFF00
GENERATION = 9


def record(text, nonce=b"", kind=23):
    """A record as the kernel makes it, with 16 bytes of room for the tag."""
    body = nonce + text + bytes(16)
    return bytes((kind, 3, 3)) + len(body).to_bytes(2, "big") + body


def command(op, **fields):
    fields = {"op": op, "context": 2, "generation": GENERATION, "version": 1} | fields
    return Item(command={field.name: fields.get(field.name, 0) for field in TX_COMMAND})


def frame(seq, payload, op=TxOp.ENCRYPT, hit=2, flags=ACK, **meta):
    """A frame of TCP, or (DUMP) of raw payload from `seq` on."""
    fields = {"op": op, "context": 2, "generation": GENERATION, "cookie": seq & 0xFFFF} | meta
    head = Parsed(
        is_tcp=True, frame_bytes=54 + len(payload), seq=seq, tcp_flags=flags, payload_offset=54,
        payload_length=len(payload), tcp_offset=34, tcp_checksum=0x1234, segment_sum=0xABCD,
    )  # fmt: skip
    if op == TxOp.DUMP:
        head = Parsed(frame_bytes=len(payload))
        fields = {"seq": seq, "length": len(payload)} | fields
    fields = {field.name: fields.get(field.name, 0) for field in TX_META}
    return Item(payload=payload, head=head, hit=hit, meta=fields, ring_word=5)


class Script:
    """Items by hand; `check` runs them on the gateware."""

    def __init__(self, config=CONFIG):
        self.config = config
        self.model = Model(config)
        self.items = []

    def give(self, item) -> Expected:
        self.items.append((item, self.model.step(item)))
        return self.items[-1][1]

    def reason(self, item):
        """Gives a frame and returns its reason."""
        (entry,) = self.give(item).entries
        return TxReason(entry["reason"])

    def check(self, stall=0.0):
        return Bench(self.config, stall=stall).check(self.items)


def test_in_order_by_hand():
    """Two records over three frames, cut in a header and in a tag: every field by hand."""
    stream = record(b"a" * 20) + record(b"b" * 3)
    cuts = [stream[:43], stream[43:62], stream[62:]]
    base = {"context": 2, "generation": 1, "version": 1, "content_type": 23, "key_row": 8,
            "use_row": 1}  # fmt: skip
    add_item = command(TxCommand.TX_ADD, seq=MARKER, number=7, key256=1)
    key = {"kind": rx.SPAN_KEY_WRITE, "context": 2, "generation": 1, "version": 1, "key256": 1,
           "key_row": 8}  # fmt: skip
    token = {"is_token": 1, "token": tx.TX_TOKEN_ADD, "has_spans": 1, "context": 2,
             "generation": GENERATION}  # fmt: skip
    want = [(add_item, Expected([key], [], [token]))]
    spans = [
        [{**base, "number": 7, "length": 36, "ring_byte": 80 + 59, "text_bytes": 20,
          "tag_bytes": 16, "first": 1, "completes": 1, "last": 1}],
        [{**base, "number": 8, "length": 19, "ring_byte": 80 + 57, "text_bytes": 3,
          "tag_bytes": 13, "first": 1, "last": 1}],
        [{**base, "number": 8, "length": 19, "ring_byte": 80 + 54, "text_offset": 3,
          "tag_offset": 13, "tag_bytes": 3, "completes": 1, "last": 1}],
    ]  # fmt: skip
    clears = [[(54, 59), (95, 97)], [(54, 57)], []]
    tags = [(1, 7), (1, 8), (0, 0)]
    seq = MARKER
    for index, payload in enumerate(cuts):
        clear = [{"start": start, "end": end} for start, end in clears[index]]
        entry = {
            "context": 2, "generation": GENERATION, "ring_word": 5, "action": tx.ACTION_ENCRYPT,
            "op": TxOp.ENCRYPT, "cookie": seq & 0xFFFF, "has_spans": 1, "clears": len(clear),
            "expected": len(payload) - sum(end - start for start, end in clears[index]),
            "tags": tags[index][0], "first_number": tags[index][1], "payload_at": 54,
            "payload_end": 54 + len(payload), "checksum_at": 50, "checksum_in": 0x1234,
            "segment_sum": 0xABCD,
        }  # fmt: skip
        want.append((frame(seq, payload), Expected(spans[index], clear, [entry])))
        seq = add(seq, len(payload))
    Bench(CONFIG).check(want)
    script = Script()
    for item, _ in want:
        script.give(item)
    script.check(stall=0.5)



WIDE = Config(flows=64, ring_words=512, max_frame=2048, tx_flows=4, tx_ring_words=256)
MOODS = {
    "calm": Mood(command=0.01, bad_byte=0, hostile=0, sync=0),
    "mixed": Mood(),
    "tiny": Mood(records=TINY, hostile=0.05, bad_byte=0.01),
    "long": Mood(records=LONG, side=0.6),
    "rough": Mood(command=0.15, sync=0.15, bad_byte=0.15, hostile=0.3, other=0.2),
}
SEEDS = (1, 2, 3)


@pytest.mark.parametrize("mood", MOODS)
def test_random_traffic(mood):
    """Spans, clear spans and entries are those of the model, with and without stalls."""
    for seed in SEEDS:
        scenario = Scenario(CONFIG, seed, MOODS[mood])
        Bench(CONFIG, seed, stall=0.0 if seed == 2 else 0.3).check(scenario.items)


def test_more_contexts_of_receive():
    """Key rows and addresses where receive has the larger table and ring."""
    Bench(WIDE, stall=0.3).check(Scenario(WIDE, 4).items)


def test_the_traffic_reaches_everything():
    """Every action, reason, command and cut of a header occurs in `test_random_traffic`."""
    seen = set()
    for mood in MOODS.values():
        for seed in SEEDS:
            seen |= Scenario(CONFIG, seed, mood).model.seen
    late = {TxReason.TAG_MISMATCH, TxReason.STALE_KEY, TxReason.DEVICE_ERROR}  # commit's
    midway = ("BAD_HEADER", "BAD_NONCE", "NO_KEY", "OUT_OF_ORDER")
    wanted = {f"DROP {r.name} without spans" for r in set(TxReason) - late - {TxReason.NONE}}
    wanted |= {f"DROP {name} with spans" for name in midway}
    wanted |= {f"{action} NONE with spans" for action in ("ENCRYPT", "DUMP")}
    wanted |= {f"{action} NONE without spans" for action in ("PASS", "ENCRYPT", "DUMP")}
    wanted |= {f"clear {count}" for count in range(1, 14)} | {f"held {n}" for n in range(5)}
    wanted |= {f"{what} {value}" for what in ("passed", "broken", "side row")
               for value in (False, True)}  # fmt: skip
    wanted |= {f"key slot {slot} first {first} side {side}"
               for slot in (0, 1) for first in (False, True) for side in (False, True)}  # fmt: skip
    wanted |= {op.name for op in TxCommand if op not in (TxCommand.TX_FLOW_WRITE,
                                                         TxCommand.TX_RELEASE)}  # fmt: skip
    assert wanted - seen == set()
