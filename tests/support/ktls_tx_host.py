# SPDX-License-Identifier: Apache-2.0
"""TCP over the transmit core, without a device.

Completions are made up. The keys protect nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from sealane.driver.device.descriptors import Handle
from sealane.driver.ktls.tx.offload import KtlsTx
from sealane.driver.ktls.tx.plan import Plan
from sealane.hdl.abi.config import VERSION_TLS13
from sealane.hdl.abi.tx import TX_META, TxOp, TxReason, TxTags
from tests.support.marking_device import info
from tests.support.sequence_numbers import distance
from tests.support.tcp_frames import ACK, Peer, Segment, Wire, left_to_the_card, read
from tests.support.tx_by_hand import content, sealed

MARKER = 0xFFFFF800  # the stream wraps soon
HANDLE = Handle(3, 0x107)
NUMBER = 5
NONCE = (0xFFFFFFFFFFFFFFFE).to_bytes(8, "big")


@dataclass(frozen=True)
class Completion:
    """The context as the device's driver delivers it."""

    cookie: int
    reason: TxReason = TxReason.NONE
    tags: dict[int, bytes] = field(default_factory=dict)


class Host:
    """TCP over a `KtlsTx`. `wire` is the stream as software would have sealed it."""

    def __init__(self, version: int = VERSION_TLS13, handle: Handle | None = HANDLE, **kwargs):
        self.path = Wire(client=Peer("10.9.0.2", 40000, MARKER - 1))
        nonce = b"" if version == VERSION_TLS13 else NONCE
        self.tx = KtlsTx(
            info(version), MARKER, handle, NUMBER, nonce, device=self, mtu=500, **kwargs
        )
        self.plain = self.wire = b""
        self.made = []

    def push(self, size=1000, **kwargs):
        self.plain += self.tx.push(23, kwargs.pop("data", content(size, len(self.made))), **kwargs)
        record = list(self.tx.records)[-1]
        self.made.append(record)
        self.wire += sealed(record, self.tx.keys.epochs[record.epoch])
        return record

    def tag(self, record):
        return self.wire[record.end - 16 : record.end]

    def frame(self, start, end, data=None, flags=ACK):
        data = self.plain if data is None else data
        payload = (bytes(-start) if start < 0 else b"") + data[max(start, 0) : max(end, 0)]
        payload = payload[: end - start]
        return left_to_the_card(Segment("c2s", start, payload, flags).frame(self.path))

    def send(self, start, end, encrypt=True, **kwargs):
        return self.tx.transmit(self.frame(start, end), encrypt, **kwargs)

    def complete(self, plan, reason=TxReason.NONE, last=None):
        """Completes all frames of a plan with the right tags. last: reason of the last one."""
        actions = []
        for i, post in enumerate(plan.frames):
            meta = TX_META.unpack(post.meta)
            why = last if last is not None and i + 1 == len(plan.frames) else reason
            tags = {}
            if why is TxReason.NONE and meta["op"] in (TxOp.ENCRYPT, TxOp.DUMP):
                seq = meta["seq"] if meta["op"] == TxOp.DUMP else read(post.frame).seq
                size = meta["length"] or len(read(post.frame).payload)
                start = distance(seq, MARKER)
                if meta["tags"] != TxTags.GIVEN:
                    tags = {
                        r.count: self.tag(r)
                        for r in self.made
                        if start <= r.end - 16 < start + size
                    }
            actions += self.tx.completed(Completion(meta["cookie"], why, tags))
        return actions

    def sent(self, start, end, **kwargs):
        """Plans a segment and carries out the plan."""
        plan = self.send(start, end, **kwargs)
        assert isinstance(plan, Plan)
        self.complete(plan)
        return plan


def metas(plan):
    """The nonzero fields, without the cookie."""
    out = []
    for post in plan.frames:
        meta = TX_META.unpack(post.meta)
        assert meta.pop("cookie")
        out.append({name: value for name, value in meta.items() if value})
    return out


def payload(post):
    return read(post.frame).payload


CONTEXT = {"context": 3, "generation": 7}
