# SPDX-License-Identifier: Apache-2.0
"""Random transfers through transmit: kTLS, driver and device against a software TLS sender.

A trial is one connection, or two that take turns on one device, with everything that an
application, TCP and a host can do to them. It breaks if

- a frame sent differs in any byte from the one that the software sender would have sent, comes in
  another order than the host's, or is sent although it must not be;
- `support/wire_checker.py`, which knows the receiver's keys and nothing else, sees anything twice
  or in the clear;
- a segment is dropped without a reason that the trial gave, or a drop is not counted;
- a byte of the stream is never sent, however often TCP sends it.

    python -m tests.trials.tx.transfers --engine model --trials 20000 --seed 0 --jobs 2

Keys are random and protect nothing.
"""

from __future__ import annotations

import random
import sys
from collections import Counter
from dataclasses import dataclass, field, replace

from sealane.driver.device.tx import TxDevice
from sealane.driver.ktls.tx.plan import Drop, DropReason, Plan, TxFrame, TxMode
from sealane.driver.ktls.tx.rekey import RekeyMode
from sealane.hdl.abi.config import VERSION_TLS12, VERSION_TLS13, Config
from sealane.hdl.abi.tx import TX_META, TxOp, TxReason
from sealane.scripts.engines import open_engine
from tests.support.tcp_frames import ACK
from tests.trials.trial_command import run_blocks, trial_parser
from tests.trials.tx.judge import Broken, Judge
from tests.trials.tx.random_flow import FLAGS, REJECTED_COOKIE, RandomFlow
from tests.trials.tx.rejected_frames import MAY_LEAVE, REJECTED_FRAMES

CONFIGS = {
    "model": Config(flows=4, tx_flows=4),
    # The size that other tests of the gateware use: one simulator for all of them.
    "rtl": replace(Config(), tx_flows=Config().flows),
}
REFUSED = frozenset(TxReason) - {TxReason.NONE}
NO_WORD = {"context": 0, "generation": 0}

# Frequency of each event, relative to the others. A plan changes some.
COMMON = {
    "write": 8, "send": 16, "retransmit": 10, "over the edge": 1, "acknowledge": 4,
    "local drop": 2, "queue full": 1, "pure ack": 1, "before": 0.5, "straddle": 0.3,
    "bypass": 0.3, "spurious": 0.7, "orphan": 0.6, "other device": 0.3, "resync": 0.3,
    "mode": 0.3, "rekey": 0.7, "fault": 0.7, "delete": 0.3, "release": 1, "change": 0.7,
    "stale": 0.7, "errant": 2.5, "refuse keys": 0.2, "lost stream": 0.4,
}  # fmt: skip
PLANS: dict[str, dict[str, float]] = {
    "common": {},
    "loss": {"retransmit": 30, "over the edge": 3, "spurious": 2},
    "jumps": {"local drop": 14, "resync": 1},
    "keys": {"rekey": 6, "acknowledge": 14, "stale": 4, "errant": 12},
    "promises": {"change": 8, "retransmit": 20, "fault": 2},
    "faults": {"fault": 10, "retransmit": 14},
    "hostile": {"errant": 20, "stale": 8, "orphan": 4, "delete": 0.5, "release": 2},
    "queues": {"queue full": 10, "local drop": 4},
}
STEPS = 30


@dataclass
class Tally:
    """The result of a number of trials. counts: events that had an effect, ways, reasons."""

    trials: int = 0
    frames: int = 0
    records: int = 0
    opened: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    breaks: list[str] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        for name in ("trials", "frames", "records", "opened"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.counts += other.counts
        self.breaks += other.breaks

    def __str__(self) -> str:
        counts = ", ".join(f"{name} {count}" for name, count in sorted(self.counts.items()))
        return (
            f"{self.trials} trials, {self.frames} frames on the wire, {self.records} records "
            f"({self.opened} opened); {counts}; {len(self.breaks)} breaks"
        )


class Trial(Judge):
    """Runs one trial on `device`, which may have had others before. plan: of `PLANS`."""

    def __init__(self, device: TxDevice, seed: int, plan: str | None = None) -> None:
        rng = random.Random(seed)
        super().__init__(device, rng)
        self.plan = plan or rng.choice(list(PLANS))
        self.device.queue = rng.choice((3, 8, 64))
        self.lazy = rng.choice((0, 0.4, 0.85))
        self.promise = 0.5 if self.plan == "promises" else rng.choice((0, 0, 0.3))
        keystream: dict[bytes, bytes] = {}
        mode = rng.choice([TxMode.AUTO] * 4 + list(TxMode))
        rekey_mode = rng.choice(list(RekeyMode))
        self.flows = [
            RandomFlow(rng, self.device, 40000 + i, keystream, mode, rekey_mode)
            for i in range(rng.choice((1, 1, 2)))
        ]
        self.big = rng.random() < 0.01
        self.counts["two flows"] += len(self.flows) > 1

    def run(self) -> Tally:
        """Runs the complete trial. Raises an `AssertionError` where it breaks."""
        weights = COMMON | PLANS[self.plan]
        kinds, chances = list(weights), list(weights.values())
        for flow in self.flows:
            self._write(flow)
        for kind in self.rng.choices(kinds, chances, k=STEPS):
            flow = self.rng.choice(self.flows)
            if getattr(self, "_" + kind.replace(" ", "_"))(flow) is not False:
                self.counts[kind] += 1
            if self.rng.random() >= self.lazy:
                self.poll()
        for flow in self.flows:
            self.drain(flow)
        self.counted()
        for flow in self.flows:
            self.counts["wrap"] += flow.seq + flow.end > 1 << 32
            self._end(flow)
        records = [r for flow in self.flows for r in flow.checker.records]
        return Tally(
            1,
            sum(flow.checker.frames for flow in self.flows),
            len(records),
            sum(record.opened for record in records),
            self.counts,
        )

    # --- the application --------------------------------------------------------------------

    def _write(self, flow: RandomFlow) -> None:
        rng = self.rng
        size = rng.choice((0, 1, rng.randrange(20), rng.randrange(100), flow.mss))
        if self.big and rng.random() < 0.2:
            size = rng.choice((1 << 14, 1448, 4096))
        tls13 = flow.version == VERSION_TLS13
        kind = 23 if rng.random() < 0.9 else rng.choice((21, 22))
        promised = size > 0 and rng.random() < self.promise
        padding = rng.randrange(20) if tls13 and rng.random() < 0.2 and size < 1 << 14 else 0
        # A key whose first nonce is the application's own has no counter, and then all are its own.
        counted = flow.ktls.handle is not None or flow.number > flow.base
        odd = not tls13 and rng.random() < 0.03 and counted
        flow.write(size, kind, promised, padding, odd)
        self.counts[f"{'AES-' + str(flow.bits)}, TLS 1.{3 if tls13 else 2}"] += 1

    def _change(self, flow: RandomFlow) -> bool:
        mine = [r for r in flow.records if r.promised and r.sealed.end > flow.released_to]
        if mine:
            flow.change(self.rng.choice(mine))
        return bool(mine)

    # --- TCP --------------------------------------------------------------------------------

    def _send(self, flow: RandomFlow, **how: object) -> bool:
        if flow.nxt >= flow.end:
            return False
        start, end = flow.nxt, flow.cut(flow.nxt, flow.end)
        eor = flow.ktls.eor
        if eor is not None and start < eor < end and self.rng.random() < 0.7:
            end = eor
        flow.nxt = end
        self.offer(flow, start, end, self.rng.choice(FLAGS), **how)
        return True

    def _retransmit(self, flow: RandomFlow) -> bool:
        if flow.una >= flow.nxt:
            return False
        pieces = []
        for _ in range(self.rng.choice((1, 1, 1, 2, 3))):
            start = flow.edge(flow.una, flow.nxt - 1)
            pieces.append((start, flow.cut(start, flow.nxt)))
        for start, end in pieces:
            self.offer(flow, start, end, self.rng.choice(FLAGS))
        return True

    def _over_the_edge(self, flow: RandomFlow) -> bool:
        """A retransmission that includes new bytes."""
        if not flow.una < flow.nxt < flow.end:
            return False
        start = max(flow.una, flow.nxt - self.rng.randrange(1, 100))
        flow.nxt = flow.cut(flow.nxt, flow.end)
        self.offer(flow, start, flow.nxt)
        return True

    def _spurious(self, flow: RandomFlow) -> bool:
        """Acknowledged bytes, in part or entirely, are sent again."""
        if not flow.una:
            return False
        start = flow.edge(0, flow.una - 1)
        self.offer(flow, start, flow.cut(start, flow.nxt))
        return True

    def _acknowledge(self, flow: RandomFlow) -> bool:
        high = flow.checker.contiguous
        if high <= flow.una:
            return False
        flow.una = flow.edge(flow.una + 1, high)
        self.carry_out(flow, flow.ktls.acked(flow.seq + flow.una & 0xFFFFFFFF))
        return True

    def _local_drop(self, flow: RandomFlow) -> bool:
        """A segment is lost above the driver, so the next one is a jump forward."""
        if flow.nxt >= flow.end:
            return False
        flow.nxt = flow.cut(flow.nxt, flow.end)
        self._send(flow)
        return True

    def _queue_full(self, flow: RandomFlow) -> bool:
        if self.rng.random() < 0.6:
            return self._send(flow, full=True)
        if flow.una >= flow.nxt:
            return False
        start = flow.edge(flow.una, flow.nxt - 1)
        self.offer(flow, start, flow.cut(start, flow.nxt), full=True)
        return True

    def _pure_ack(self, flow: RandomFlow) -> None:
        at = self.rng.choice((flow.nxt, flow.una, 0))
        self.offer(flow, at, at, self.rng.choice(FLAGS), encrypt=self.rng.random() < 0.5)

    def _before(self, flow: RandomFlow) -> None:
        """A retransmission of a segment that software sent."""
        start = -self.rng.randrange(1, 500)
        end = flow.cut(start, 0) if self.rng.random() < 0.5 else min(0, start + flow.mss)
        self.offer(flow, start, end, encrypt=False)

    def _straddle(self, flow: RandomFlow) -> bool:
        """The same, and after the marker with bytes that are final too, though nothing says so."""
        first = flow.records[0]
        if first.promised:
            return False
        end = self.rng.randrange(1, min(first.sealed.tag_at, flow.mss) + 1)
        final = self.rng.random() < 0.5
        self.offer(flow, -self.rng.randrange(1, 50), end, encrypt=False, final=final)
        return True

    def _bypass(self, flow: RandomFlow) -> None:
        start = -self.rng.randrange(1, 50)
        self.offer(flow, start, min(flow.end, start + self.rng.randrange(1, 80)))

    def _orphan(self, flow: RandomFlow) -> bool:
        """Plaintext after the marker, without any metadata."""
        if flow.released:
            return False
        self._make_room()
        start = flow.edge(0, flow.end - 1)
        end = flow.cut(start, flow.end)
        if self.rng.random() < 0.5:
            plan = flow.ktls.transmit(flow.host_frame(start, end), False)
            if flow.alive:
                assert isinstance(plan, Plan)
                self.post(flow, plan.frames, "orphan", REFUSED)
            else:
                assert plan == Drop(DropReason.ORPHAN)
            self.counts["orphans"] += 1
            self.dropped["orphans"] += 1
        else:
            low = start - self.rng.choice((0, 0, self.rng.randrange(40)))
            self._post_rejected(
                flow, flow.rejected_frame(low, end, TxOp.NOTHING, **NO_WORD), "orphan"
            )
        return True

    def _other_device(self, flow: RandomFlow) -> bool:
        """The route has changed: software encrypts for a device that has no context."""
        if flow.una >= flow.nxt:
            return False
        start = flow.edge(flow.una, flow.nxt - 1)
        end = flow.cut(start, flow.nxt)
        plan = flow.ktls.transmit(flow.host_frame(start, end), True, object())
        if isinstance(plan, Plan):
            for post in plan.frames:
                if TX_META.unpack(post.meta)["op"] != TxOp.WIRE:
                    raise Broken("plaintext for another device")
                self.judge(flow, post.frame, flow.expected(start, end))
        else:
            self.not_sent(flow, start, end, ACK, plan)
        return True

    # --- the host's driver ------------------------------------------------------------------

    def _resync(self, flow: RandomFlow) -> bool:
        if flow.alive:
            flow.ktls.tls_offload_tx_resync_request()
        return flow.alive

    def _mode(self, flow: RandomFlow) -> None:
        flow.ktls.mode = self.rng.choice([TxMode.AUTO, *TxMode])

    def _rekey(self, flow: RandomFlow) -> bool:
        if flow.version == VERSION_TLS12 and self.rng.random() < 0.9:
            return False  # the offload ends with it
        self.carry_out(flow, flow.ktls.rekey(*flow.new_keys()))
        self._write(flow)
        return True

    def _refuse_keys(self, flow: RandomFlow) -> None:
        flow.refuse_keys = True

    def _fault(self, flow: RandomFlow) -> bool:
        model = getattr(self.device._transport, "tx", None)
        if not hasattr(model, "fail_next"):
            return False
        writes = self.rng.choice((1, 1, 2, 7))
        if flow.una < flow.nxt and self.rng.random() < 0.5:
            start = flow.edge(flow.una, flow.nxt - 1)
            self.offer(flow, start, flow.cut(start, flow.nxt), lose=writes)
            return True
        return self._send(flow, lose=writes)

    def _delete(self, flow: RandomFlow) -> bool:
        if not flow.alive:
            return False
        self.settle()  # key commands come after the completions of frames that need them
        self.device.delete(flow.handle)
        flow.ktls.deleted()
        flow.alive = False
        return True

    def _release(self, flow: RandomFlow) -> bool:
        if flow.alive or flow.released:
            return False
        self.poll()
        self.device.release(flow.handle)
        flow.released = True
        return True

    # --- frames that must not be sent -----------------------------------------------------

    def _stale(self, flow: RandomFlow) -> bool:
        """A frame that was sent before comes out of some queue once more, unchanged."""
        if not flow.stale:
            return False
        post = self.rng.choice((flow.stale[0], self.rng.choice(flow.stale)))
        meta = TX_META.unpack(post.meta)
        again = TxFrame(post.frame, TX_META.pack({**meta, "cookie": REJECTED_COOKIE}))
        reasons = frozenset(TxReason) if meta["detached"] and flow.alive else REFUSED
        self._make_room()
        self.post(flow, [again], "stale", reasons)
        return True

    def _errant(self, flow: RandomFlow) -> bool:
        """A frame with wrong metadata, which the device must recognise."""
        if flow.broken:
            return False
        self._make_room()
        name = self.rng.choice(list(REJECTED_FRAMES))
        post = REJECTED_FRAMES[name](self.rng, flow, self.flows)
        if post is not None:
            self.counts["errant: " + name] += 1
            self._post_rejected(flow, post, name)
        return post is not None

    def _lost_stream(self, flow: RandomFlow) -> bool:
        """A false header in order: the device's stream is broken until a sync."""
        self._make_room()
        start = flow.ktls.expected
        record = next((r for r in flow.covering(start, flow.end) if r.sealed.start == start), None)
        if record is None or not flow.alive or flow.broken or record.number not in flow.usable:
            return False
        post = flow.rejected_frame(start, record.sealed.end)
        at = len(post.frame) - len(record.room) + self.rng.randrange(1, 3)
        frame = post.frame[:at] + b"\x07" + post.frame[at + 1 :]
        self._post_rejected(flow, TxFrame(frame, post.meta), "lost stream")
        flow.broken = self.faults = True
        return True

    def _post_rejected(self, flow: RandomFlow, post: TxFrame, name: str) -> None:
        reasons = frozenset(TxReason) if name in MAY_LEAVE else REFUSED
        self.post(flow, [post], name, reasons)

    def _make_room(self) -> None:
        while not self.device.room:  # what was held may take it again
            self.poll()

    def _end(self, flow: RandomFlow) -> None:
        """Everything is acknowledged, and the device is left as it was found."""
        if flow.checker.contiguous == flow.end:
            flow.una = flow.end
            self.carry_out(flow, flow.ktls.acked(flow.seq + flow.end & 0xFFFFFFFF))
            if len(flow.ktls.records):
                raise Broken("records are kept that are acknowledged")
        self._delete(flow)
        self._release(flow)


def run_trial(device: TxDevice, seed: int, plan: str | None = None) -> Tally:
    """Runs one trial. A break is in the tally, with its seed."""
    trial = None
    try:
        trial = Trial(device, seed, plan)
        return trial.run()
    except Exception as error:  # whatever it raises is a break with a seed
        name = f", {trial.plan}" if trial else ""
        kind = "" if isinstance(error, Broken) else f"{type(error).__name__}: "
        return Tally(1, breaks=[f"seed {seed}{name}: {kind}{error}"])


def make_device(engine: str) -> TxDevice:
    """The driver of a behavioural model, or of simulated gateware."""
    config = CONFIGS[engine]
    return TxDevice(open_engine(engine, config), config)


def run_trials(seeds, engine: str = "model", plan: str | None = None) -> Tally:
    """Runs trials one after the other and never stops early.

    A model is new for every trial, so that a seed determines everything. Gateware is kept until a
    trial breaks.
    """
    total, device = Tally(), None
    for seed in seeds:
        if device is None or engine == "model":
            device = make_device(engine)
        one = run_trial(device, seed, plan)
        total.add(one)
        if one.breaks:
            device = None
    return total


def _chunk(args) -> Tally:
    return run_trials(*args)


def main(argv=None) -> int:
    """Runs the command. The exit status is 1 if a trial broke."""
    parser = trial_parser(__doc__)
    parser.add_argument("--plan", choices=PLANS, help="default: each trial draws one")
    options = parser.parse_args(argv)
    return run_blocks(options, _chunk, options.plan, Tally())


if __name__ == "__main__":
    sys.exit(main())
