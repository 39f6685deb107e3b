# SPDX-License-Identifier: Apache-2.0
"""The host's side of a random transfer, and the judge of everything that comes back.

It offers segments to kTLS and posts frames to the device. `transfers` decides what happens to the
transfer.
"""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass

from sealane.driver.device.counters import NetdevCounters
from sealane.driver.device.tx import QueueFull, TxDevice
from sealane.driver.ktls.tx.plan import Drop, DropReason, Hold, Plan, TxFrame
from sealane.driver.ktls.tx.rekey import ClearKey, InstallKey, KeyAction
from sealane.hdl.abi.tx import TX_META, TxOp, TxReason, TxTags
from tests.support.tcp_frames import ACK
from tests.trials.tx.random_flow import REJECTED_COOKIE, RandomFlow


class Broken(AssertionError):
    """A trial found something."""


@dataclass(frozen=True)
class _Posted:
    """A frame in the device. frame: as it must be sent, if known. reasons: allowed ones.

    stream: kTLS has given it to the stream.
    """

    flow: RandomFlow
    op: TxOp
    what: str
    reasons: frozenset[TxReason]
    frame: bytes | None = None
    stream: bool = False


class Judge:
    """Directions that share `device`. counts: events. dropped: drops by the counter that should
    count them. faults: something was done to the device or its stream.
    """

    def __init__(self, device: TxDevice, rng: random.Random) -> None:
        self.device, self.rng = device, rng
        self.device.counters = NetdevCounters()
        self.flows: list[RandomFlow] = []
        self.counts: Counter[str] = Counter()
        self.dropped: Counter[str] = Counter()
        self.encrypted = 0
        self.faults = False
        self._posted: deque[_Posted] = deque()

    def offer(
        self,
        flow: RandomFlow,
        start: int,
        end: int,
        flags: int = ACK,
        *,
        encrypt: bool = True,
        full: bool = False,
        lose: int = 0,
        again: bool = False,
        final: bool = False,
    ) -> None:
        """TCP hands over [start, end).

        full: there is no room at first. lose: writes of the device. again: it was held. final:
        bytes after the marker are sealed too.
        """
        expected = flow.expected(start, end, flags)
        if encrypt and start < end:
            frame = flow.host_frame(start, end, flags)
        elif expected is None:
            return
        else:
            frame = expected
        before = self._snapshot(flow) if full or self.device.room < 4 else None
        plan = flow.ktls.transmit(frame, encrypt, final=final)
        if not isinstance(plan, Plan):
            self.not_sent(flow, start, end, flags, plan, again)
            return
        changed = any(r.sealed.changed for r in flow.covering(start, end))
        if start < end and start < 0 and encrypt:
            raise Broken(f"[{start}, {end}) is in front of the marker")
        if 0 <= start < end and start < flow.released_to:
            raise Broken(f"[{start}, {end}) begins in a record that is acknowledged")
        room, self.device.queue = self.device.queue, 0 if full else self.device.queue
        try:
            if lose and len(plan.frames) <= self.device.room:
                self.device._transport.tx.fail_next(lose)
                self.faults = True
            reasons = {TxReason.NONE}
            if changed:
                reasons.add(TxReason.TAG_MISMATCH)
            self.post(flow, plan.frames, f"[{start}, {end})", reasons, expected, lose > 0)
        except QueueFull:
            self.device.queue = room
            plan.undo()
            self.counts["undone"] += 1
            if before and self._snapshot(flow) != before:
                raise Broken(f"[{start}, {end}) was not taken back") from None
            if self.rng.random() < 0.7:
                self.poll()
                self.offer(
                    flow, start, end, flags, encrypt=encrypt, lose=lose, again=again, final=final
                )
            return
        self.device.queue = room
        if plan.way:
            self.counts["way " + plan.way.value] += 1
        for post in plan.frames:
            meta = TX_META.unpack(post.meta)
            given = meta["detached"] and meta["tags"] == TxTags.GIVEN
            if meta["op"] == TxOp.ENCRYPT and (given or not meta["detached"]) and start < end:
                flow.stale.append(post)

    def _snapshot(self, flow: RandomFlow) -> tuple[object, ...]:
        """Everything that `Plan.undo` has to restore."""
        ktls = flow.ktls
        counted = [
            dict(value) if isinstance(value, dict) else value
            for counters in (ktls.counters, ktls.netdev)
            for name, value in vars(counters).items()
            if name != "undone"
        ]
        records = [(r.tag, r.outstanding) for r in ktls.records]
        return ktls.expected, ktls.high, ktls.resync, counted, records

    def post(
        self,
        flow: RandomFlow,
        posts: list[TxFrame],
        what: str,
        reasons: Iterable[TxReason],
        frame: bytes | None = None,
        faulty: bool = False,
    ) -> None:
        self.device.post(posts)
        for i, post in enumerate(posts):
            allowed = set(reasons)
            if faulty and not i:
                allowed.add(TxReason.DEVICE_ERROR)
            meta = TX_META.unpack(post.meta)
            op = TxOp(meta["op"])
            own = op in (TxOp.ENCRYPT, TxOp.DUMP) and meta["cookie"] != REJECTED_COOKIE
            stream = own and not meta["detached"]
            if own:
                flow.broken = flow.broken and not meta["sync"]
                flow.resync_told = flow.resync_told and flow.broken
                if flow.broken:  # the frontier of kTLS is not the device's
                    allowed |= {TxReason.BROKEN, TxReason.OUT_OF_ORDER}
            if stream and flow.resync_told:
                raise Broken(f"{what}: in order, and the stream is known to be lost")
            self._posted.append(_Posted(flow, op, what, frozenset(allowed), frame, stream))

    def not_sent(
        self,
        flow: RandomFlow,
        start: int,
        end: int,
        flags: int,
        plan: Drop | Hold | Plan,
        again: bool = False,
    ) -> None:
        """kTLS does not send a segment. Checks whether it may do so."""
        mine = flow.covering(start, end)
        promised = any(r.promised for r in mine)
        if isinstance(plan, Hold):
            self.counts["held"] += 1
            if not promised or (again and not self._posted):
                raise Broken(f"[{start}, {end}) is held for nothing")
            flow.held.append((start, end, flags))
            return
        assert isinstance(plan, Drop)
        self.counts[plan.reason.value] += 1
        self.dropped[plan.reason.value] += 1
        may = {
            DropReason.BYPASS_REQ: start < 0,
            DropReason.NO_SYNC_DATA: 0 <= start < flow.released_to or (promised and self.faults),
            DropReason.TAG_MISMATCH: any(r.sealed.changed for r in mine),
        }
        if not may[plan.reason]:
            raise Broken(f"[{start}, {end}) was dropped: {plan.reason}")

    def poll(self) -> None:
        """Takes all frames and completions, in order, and offers held segments again."""
        frames, completions = self.device.poll()
        left = iter(frames)
        for completion in completions:
            posted = self._posted.popleft()
            flow, reason = posted.flow, completion.reason
            if reason is TxReason.NONE and posted.op is not TxOp.DUMP:
                frame = next(left, None)
                if frame is None:
                    raise Broken(f"{posted.what}: nothing left, and the completion says it did")
                self.judge(flow, frame, posted.frame)
                self.encrypted += posted.op is TxOp.ENCRYPT and flow.last_payload > 0
            if reason not in posted.reasons:
                raise Broken(f"{posted.what}: {posted.op.name}, {reason.name}")
            if reason:
                self.counts["reason " + reason.name] += 1
            flow.resync_told |= posted.stream and flow.broken and reason is TxReason.BROKEN
            for number, tag in completion.tags.items():
                sealed = flow.records[number - flow.first_number].sealed
                if tag != sealed.wire[-16:] and not sealed.changed:
                    raise Broken(f"{posted.what}: another tag of {number}")
            self.carry_out(flow, flow.ktls.completed(completion))
        if next(left, None) is not None or self._posted:
            raise Broken("frames without completions")
        for flow in self.flows:
            held, flow.held = flow.held, []
            for start, end, flags in held:
                self.offer(flow, start, end, flags, again=True)

    def settle(self) -> None:
        """Polls until nothing is in flight. The first poll may post held segments."""
        self.poll()
        while self._posted:
            self.poll()

    def judge(self, flow: RandomFlow, frame: bytes, expected: bytes | None) -> None:
        start, end = flow.checker.saw(frame)
        flow.last_payload = end - start
        if expected is not None and (
            frame[: len(expected)] != expected or any(frame[len(expected) :])
        ):
            raise Broken(f"[{start}, {end}) is not the software sender's frame")

    def carry_out(self, flow: RandomFlow, actions: Iterable[KeyAction]) -> None:
        for action in actions:
            if isinstance(action, InstallKey) and flow.refuse_keys:
                self.carry_out(flow, flow.ktls.key_installed(False))
                self.counts["key refused"] += 1
            elif isinstance(action, InstallKey):
                epoch = action.epoch
                self.device.rekey(flow.handle, action.key_slot, epoch.info, epoch.base)
                self.counts["key installed"] += 1
                self.carry_out(flow, flow.ktls.key_installed(True))
            else:
                assert isinstance(action, ClearKey)
                self.device.key_clear(flow.handle, action.key_slot)
                self.counts["key cleared"] += 1

    def drain(self, flow: RandomFlow) -> None:
        """TCP sends until everything was sent that can be."""
        self.poll()
        at, tries = 0, 0
        while at < flow.end:
            at = flow.checker.missing(at)
            if at >= flow.end:
                break
            end = flow.cut(at, flow.end)
            flow.nxt = max(flow.nxt, end)
            self.offer(flow, at, end)
            self.poll()
            if flow.checker.left(at, end):
                tries = 0
                continue
            tries += 1
            if tries < 4:
                continue
            mine = flow.covering(at, end)
            if not any(r.promised and (r.sealed.changed or self.faults) for r in mine):
                raise Broken(f"[{at}, {end}) never leaves")
            self.counts["given up"] += 1
            at, tries = end, 0

    def counted(self) -> None:
        """Drops are counted, and by name."""
        netdev, total = self.device.counters.as_dict(), Counter()
        for flow in self.flows:
            total.update(
                {k: v for k, v in flow.ktls.counters.as_dict().items() if isinstance(v, int)}
            )
        for name in ("tx_tls_drop_bypass_req", "tx_tls_drop_no_sync_data"):
            if netdev[name] != self.dropped[name]:
                raise Broken(f"{name}: {netdev[name]}, not {self.dropped[name]}")
        if netdev["tx_tls_encrypted_packets"] != self.encrypted:
            raise Broken(f"{netdev['tx_tls_encrypted_packets']} encrypted, not {self.encrypted}")
        for name, count in (
            ("undone", self.counts["undone"]),
            ("tag_wait", self.counts["held"]),
            ("orphans", self.dropped["orphans"]),
        ):
            if total[name] != count:
                raise Broken(f"{name}: {total[name]}, not {count}")
