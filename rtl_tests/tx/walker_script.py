# SPDX-License-Identifier: Apache-2.0
"""Frames and commands for the transmit walker by hand, on one context."""

from rtl_tests.tx.walker_bench import Bench, Expected, Item, Model
from sealane.driver.net.parser import Parsed
from sealane.hdl.abi.config import Config
from sealane.hdl.abi.tx import TX_COMMAND, TX_META, TxCommand, TxOp, TxReason
from tests.support.tcp_frames import ACK

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
    """A frame of TCP, or (DUMP) of raw payload, from `seq` on, any integer."""
    seq &= 0xFFFFFFFF
    fields = {"op": op, "context": 2, "generation": GENERATION, "cookie": seq & 0xFFFF} | meta
    head = Parsed(
        is_tcp=True,
        frame_bytes=54 + len(payload),
        seq=seq,
        tcp_flags=flags,
        payload_offset=54,
        payload_length=len(payload),
        tcp_offset=34,
        tcp_checksum=0x1234,
        segment_sum=0xABCD,
    )
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

    def add(self, number=0, version=1, nonce=0):
        """A new context with its marker at MARKER."""
        self.give(
            command(TxCommand.TX_ADD, seq=MARKER, number=number, version=version, nonce=nonce)
        )

    def reason(self, seq, payload, op=TxOp.ENCRYPT, **more):
        """Gives a frame and returns its reason."""
        (entry,) = self.give(frame(seq, payload, op, **more)).entries
        return TxReason(entry["reason"])

    def check(self, stall=0.0):
        return Bench(self.config, stall=stall).check(self.items)
