# SPDX-License-Identifier: Apache-2.0
"""One transmit direction under events that come at the worst moment.

`tests/trials/tx/transfers.py` is a host that does one thing after the other. There the requests of
kTLS are carried out at once, and completions come in order. Here everything is late. Between a plan
and its post or its undo anything may happen. Completions come at any time, in any order, twice, or
never if the device has failed. A key is in the device long before kTLS is informed.
Acknowledgements go back. Another connection takes the addresses while frames of the last one are
still in queues.

A storm is a list of steps (name, seed), so that `smallest` can remove steps from one that broke. It
breaks if

- the bytes on the wire are not the sender's;
- the device refuses a frame without a reason that the storm gave;
- a segment is dropped or held without cause, or is never sent;
- a key or record is kept that is not needed;
- a counter does not match the events.

    python -m tests.trials.tx.storm --trials 10000 --seed 0 --jobs 2
"""

from __future__ import annotations

import random
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from sealane.driver.device.counters import NetdevCounters
from sealane.driver.device.tx import TxDevice
from sealane.driver.ktls.tx.plan import Drop, DropReason, Hold, Plan, TxFrame, TxMode
from sealane.driver.ktls.tx.rekey import InstallKey
from sealane.driver.model.device import ModelTransport
from sealane.hdl.abi.config import VERSION_TLS12, Config
from sealane.hdl.abi.tx import TX_META, TxOp, TxReason
from tests.support.tcp_frames import ACK, FIN
from tests.trials.trial_command import run_blocks, trial_parser
from tests.trials.tx.storm_flow import BEFORE, TAG, Broken, Connection

CONFIG = Config(flows=4, tx_flows=4)

# How often a step is drawn, relative to the others.
STEPS = {
    "write": 8, "send": 14, "again": 12, "jump": 3, "answer": 12, "answer out of turn": 4,
    "answer twice": 1, "ack": 4, "old ack": 1, "plan": 5, "decide": 8, "rekey": 2, "install": 5,
    "change": 3, "resync": 1, "mode": 1, "fault": 2, "probe": 1, "before": 1, "delete": 0.15,
    "fail": 0.15, "next connection": 0.2, "stale": 1, "other device": 1,
}  # fmt: skip


class Storm:
    """A host, its device and one connection at a time on the same addresses."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.transport = ModelTransport(CONFIG)
        self.device = TxDevice(self.transport, CONFIG, counters=NetdevCounters())
        self.counts: Counter[str] = Counter()
        self.nonces: set[bytes] = set()
        self.sum: Counter[str] = Counter()
        self.lose = 0
        self.past: list[Connection] = []
        self.now = self._connect()

    def _connect(self) -> Connection:
        made = Connection(self.rng, self.device, self.nonces)
        made.write(40, 23, False)
        return made

    def run(self, steps: list[tuple[str, int]]) -> Counter[str]:
        """Runs all steps, then TCP sends until everything was sent. Raises an `AssertionError`."""
        for name, seed in steps:
            self.rng.seed(seed)
            if self.now.pending is not None and name in _TRANSMITS:
                name = "decide"
            getattr(self, "_" + name.replace(" ", "_"))(self.now)
            self.counts[name] += 1
            if not self.now.alive and self.now.ktls.tls_offload_tx_resync_pending:
                raise Broken("a resync is pending where the device has let go")
        self.rng.seed(1)
        self._drain(self.now)
        return self.counts

    # --- segments -------------------------------------------------------------------------

    def _offer(self, c: Connection, start: int, end: int, flags: int = ACK, **how: object) -> None:
        """TCP hands over [start, end), which is posted at once."""
        plan = self._planned(c, start, end, flags, **how)
        if plan is not None:
            self._post(c, plan.frames)

    def _planned(
        self,
        c: Connection,
        start: int,
        end: int,
        flags: int = ACK,
        encrypt: bool = True,
        device: object = None,
    ) -> Plan | None:
        got = c.ktls.transmit(c.frame(start, end, flags), encrypt, device)
        if isinstance(got, Plan):
            self.counts[f"way {got.way}"] += 1
            c.sum["ways"] += got.way is not None
            return got
        c.sum["tag_wait" if isinstance(got, Hold) else got.reason.value] += 1
        mine = c.covering(start, end)
        promised = any(isinstance(r.content, bytearray) for r in mine)
        if isinstance(got, Hold):
            self.counts["held"] += 1
            if not promised or not c.in_flight:
                raise Broken(f"[{start}, {end}) is held for nothing")
            return None
        assert isinstance(got, Drop)
        self.counts["drop " + got.reason] += 1
        released = max((r.end for r in c.records if r.end <= c.una), default=0)
        may = {
            DropReason.BYPASS_REQ: start < 0 and encrypt,
            DropReason.NO_SYNC_DATA: 0 <= start < released or promised and c.faults,
            DropReason.TAG_MISMATCH: any(r.changed for r in mine),
        }
        if not may.get(got.reason):
            raise Broken(f"[{start}, {end}) is dropped: {got.reason}")
        return None

    def _post(self, c: Connection, posts: list[TxFrame]) -> None:
        """Posts frames to the device, judges the frames sent and keeps completions for later."""
        faulty = self.lose > 0
        if faulty:
            self.transport.tx.fail_next(self.lose)
            self.lose, c.faults = 0, True
        self.device.post(posts)
        polled = self.device.poll()
        for frame in polled.frames:
            c.saw(frame)
        if len(polled.completions) != len(posts):
            raise Broken("not a completion for each frame")
        c.in_flight += [done for done in polled.completions if done.context < CONFIG.tx_flows]
        c.posted += posts
        allowed = {TxReason.NONE}
        if not c.alive:
            allowed.add(TxReason.NO_CONTEXT)
        if faulty:
            allowed.add(TxReason.DEVICE_ERROR)
        if any(r.changed for r in c.records):
            allowed.add(TxReason.TAG_MISMATCH)
        for done, post in zip(polled.completions, posts, strict=True):
            self.counts["reason " + done.reason.name] += 1
            if done.reason not in allowed:
                raise Broken(f"{done.op.name}, {done.reason.name}")
            if done.sent and done.op in (TxOp.ENCRYPT, TxOp.DUMP):
                kind = "encrypted" if done.op is TxOp.ENCRYPT else "dump"
                size = len(post.frame)
                if done.op is TxOp.ENCRYPT:  # IPv4 and TCP without options
                    size = int.from_bytes(post.frame[16:18], "big") - 40
                self.sum[f"tx_tls_{kind}_packets"] += 1
                self.sum[f"tx_tls_{kind}_bytes"] += size

    def _cut(self, c: Connection, start: int, end: int) -> int:
        most = min(end, start + self.rng.choice((30, 120, 700)))
        return most if self.rng.random() < 0.4 else self._edge(c, start + 1, most)

    def _edge(self, c: Connection, low: int, high: int) -> int:
        rng = self.rng
        if rng.random() < 0.6:
            record = rng.choice(c.records)
            near = rng.choice(
                (
                    record.start,
                    record.start + record.header_size,
                    record.end - TAG,
                    record.end,
                    record.end - 7,
                )
            )
            return min(max(near + rng.randint(-1, 1), low), high)
        return rng.randint(low, high)

    def _write(self, c: Connection) -> None:
        rng = self.rng
        size = rng.choice((0, 1, rng.randrange(40), rng.randrange(300), 900))
        c.write(size, rng.choice((23, 23, 23, 22, 21)), size > 0 and rng.random() < 0.4)

    def _send(self, c: Connection) -> None:
        if c.nxt >= len(c.host):
            self._write(c)
        start = c.nxt
        c.nxt = self._cut(c, start, len(c.host))
        self._offer(c, start, c.nxt, self.rng.choice((ACK, ACK, ACK | FIN)))

    def _jump(self, c: Connection) -> None:
        if c.nxt < len(c.host):
            c.nxt = self._cut(c, c.nxt, len(c.host))
        self._send(c)

    def _again(self, c: Connection) -> None:
        if c.una < c.nxt:
            start = self._edge(c, max(0, c.una - self.rng.choice((0, 0, 60))), c.nxt - 1)
            self._offer(c, start, self._cut(c, start, c.nxt))

    def _other_device(self, c: Connection) -> None:
        if c.una < c.nxt:
            start = self._edge(c, c.una, c.nxt - 1)
            plan = self._planned(c, start, self._cut(c, start, c.nxt), device=object())
            for post in plan.frames if plan else []:
                if TX_META.unpack(post.meta)["op"] != TxOp.WIRE:
                    raise Broken("plaintext for another device")
                c.saw(post.frame)

    def _probe(self, c: Connection) -> None:
        """A window probe, or an acknowledgement: no payload."""
        at = self.rng.choice((c.una - 1, c.una, c.nxt, len(c.host) + 1))
        before = self.device.counters.tx_tls_ooo, c.ktls.expected, c.ktls.high
        frames = self.counts["reason NONE"]
        self._offer(c, at, at, encrypt=self.rng.random() < 0.5)
        if self.counts["reason NONE"] != frames + 1:
            raise Broken("an acknowledgement does not leave")
        if before != (self.device.counters.tx_tls_ooo, c.ktls.expected, c.ktls.high):
            raise Broken("an acknowledgement moves something")

    def _before(self, c: Connection) -> None:
        start = -self.rng.randrange(1, len(BEFORE))
        encrypt = self.rng.random() < 0.3
        self._offer(
            c, start, self.rng.randint(start + 1, 0 if not encrypt else 20), encrypt=encrypt
        )

    # --- a plan that waits ----------------------------------------------------------------

    def _plan(self, c: Connection) -> None:
        """A plan that is made, but neither posted nor taken back for a while."""
        new = c.nxt < len(c.host) and self.rng.random() < 0.6
        start = c.nxt if new else self._edge(c, c.una, max(c.una, c.nxt - 1))
        if start >= len(c.host):
            return
        end = self._cut(c, start, len(c.host) if new else max(c.nxt, start + 1))
        plan = self._planned(c, start, end)
        if plan is not None:
            c.pending = plan, start, end

    def _decide(self, c: Connection) -> None:
        if c.pending is None:
            return
        (plan, start, end), c.pending = c.pending, None
        if self.rng.random() < 0.5:
            c.nxt = max(c.nxt, end)
            self._post(c, plan.frames)
            return
        plan.undo()
        self.counts["undone"] += 1
        c.sum["undone"] += 1
        c.sum["ways"] -= plan.way is not None
        if self.rng.random() < 0.5:
            c.nxt = max(c.nxt, end)
            self._offer(c, start, end)

    # --- completions, acknowledgements -----------------------------------------------------

    def _answer(self, c: Connection) -> None:
        for _ in range(min(len(c.in_flight), self.rng.choice((1, 2, 99)))):
            self._tell(c, 0)

    def _answer_out_of_turn(self, c: Connection) -> None:
        if c.in_flight:
            self._tell(c, self.rng.randrange(len(c.in_flight)))

    def _answer_twice(self, c: Connection) -> None:
        if c.answered is not None:
            self._carry_out(c, c.ktls.completed(c.answered))

    def _tell(self, c: Connection, index: int) -> None:
        c.answered = done = c.in_flight.pop(index)
        if done.reason and done.op is not TxOp.DUMP:
            mismatch = done.reason is TxReason.TAG_MISMATCH
            c.sum["tag_mismatch" if mismatch else "device_drops"] += 1
        self._carry_out(c, c.ktls.completed(c.answered))

    def _ack(self, c: Connection) -> None:
        high = min(c.contiguous, c.nxt)
        if high > c.una:
            c.una = self._edge(c, c.una + 1, high)
            self._acked(c, c.una)

    def _old_ack(self, c: Connection) -> None:
        self._acked(c, self.rng.randint(-50, c.una))

    def _acked(self, c: Connection, at: int) -> None:
        c.floor = c.una
        self._carry_out(c, c.ktls.acked(c.seq + at & 0xFFFFFFFF))

    # --- keys -----------------------------------------------------------------------------

    def _rekey(self, c: Connection) -> None:
        if c.version == VERSION_TLS12 and self.rng.random() < 0.8:
            return
        self._carry_out(c, c.ktls.rekey(*c.rekeyed()))
        if self.rng.random() < 0.7:
            self._write(c)

    def _carry_out(self, c: Connection, actions) -> None:
        """Puts keys into the device at once. kTLS is informed of an installation later."""
        for action in actions:
            if not c.alive:
                raise Broken("something is to be done where the device has let go")
            if isinstance(action, InstallKey):
                c.installing = 1 if self.rng.random() < 0.8 else -1
                if c.installing > 0:
                    self.device.rekey(
                        c.handle, action.key_slot, action.epoch.info, action.epoch.base
                    )
            else:
                self.device.key_clear(c.handle, action.key_slot)

    def _install(self, c: Connection) -> None:
        if c.installing:
            ok, c.installing = c.installing > 0, 0
            self._carry_out(c, c.ktls.key_installed(ok))
            self.counts["installed" if ok else "refused"] += 1

    # --- the worst ------------------------------------------------------------------------

    def _change(self, c: Connection) -> None:
        mine = [r for r in c.records if isinstance(r.content, bytearray) and r.end > c.una]
        if mine:
            record = self.rng.choice(mine)
            at = self.rng.randrange(len(record.content))
            value = record.content[at] ^ self.rng.randrange(1, 256)
            record.content[at] = c.host[record.start + record.header_size + at] = value
            record.values[at].add(value)
            record.changed = True

    def _resync(self, c: Connection) -> None:
        c.ktls.tls_offload_tx_resync_request()

    def _mode(self, c: Connection) -> None:
        c.ktls.mode = self.rng.choice([TxMode.AUTO, *TxMode])

    def _fault(self, c: Connection) -> None:
        self.lose = self.rng.choice((1, 2, 9))

    def _delete(self, c: Connection) -> None:
        if c.alive:
            self.device.delete(c.handle)
            c.ktls.deleted()
            c.alive, c.installing = False, 0

    def _fail(self, c: Connection) -> None:
        """Nothing is completed any more. Frames that were posted may have been sent."""
        if c.alive:
            self.device.delete(c.handle)
            c.ktls.failed()
            c.alive, c.installing, c.pending, c.faults = False, 0, None, True
            if self.rng.random() < 0.5:
                c.in_flight.clear()  # else they come after all
            c.lost = True

    def _next_connection(self, c: Connection) -> None:
        """A new connection on the same addresses, before the last one's completions come."""
        self._delete(c)
        self.device.release(c.handle)
        self.past.append(c)
        self.now = self._connect()

    def _stale(self, c: Connection) -> None:
        """A frame of a closed connection comes out of some queue."""
        for old in self.past:
            while old.in_flight:
                self._tell(old, 0)
        posts = [post for old in self.past for post in old.posted]
        if not posts:
            return
        post = self.rng.choice(posts)
        meta = TX_META.unpack(post.meta)
        self.device.post([post])
        left = self.device.poll().frames
        if left and meta["op"] not in (TxOp.WIRE, TxOp.NOTHING):
            raise Broken("a frame of a connection that is over leaves")

    # --- the end --------------------------------------------------------------------------

    def _settle(self, c: Connection) -> None:
        while c.in_flight or c.installing:
            self._answer(c)
            self._install(c)

    def _drain(self, c: Connection) -> None:
        """TCP sends until everything was sent: nothing is lost forever, and nothing is kept."""
        c.ktls.mode, self.lose = TxMode.AUTO, 0
        self._decide(c)
        at = 0
        for _ in range(6):
            self._settle(c)
            while c.left.find(0, at) >= 0:
                at = c.left.find(0, at)
                end = min(len(c.host), at + 300)
                c.nxt = max(c.nxt, end)
                self._offer(c, at, end)
                self._settle(c)
                at = end
            at = 0
        missing = c.left.find(0)
        if missing < 0:
            c.una = len(c.host)
            self._acked(c, c.una)
            self._settle(c)
            if len(c.ktls.records) or len(c.ktls.keys.epochs) != 1:
                raise Broken("records or keys are kept that are acknowledged")
            used = sum(row is not None for row in c.ktls.keys.slots)
            keys = self.transport.tx.engine.keys
            if c.alive and len([k for k in keys if k[0] == c.handle.context]) != used:
                raise Broken("a key is in the device that no slot is known of")
        else:
            promised = [
                r for r in c.covering(missing, missing + 300) if isinstance(r.content, bytearray)
            ]
            if not any(r.changed or c.faults for r in promised):
                raise Broken(f"{missing} never leaves")
        if any(r.outstanding or r.streaming for r in c.ktls.records):
            raise Broken("something is outstanding that is completed")
        if c.ktls._in_flight:
            raise Broken("flights are left")
        self._counted([*self.past, c])

    def _counted(self, all_of_them: list[Connection]) -> None:
        """Every counter matches the events."""
        netdev = self.device.counters.as_dict()
        for name, count in self.sum.items():
            if netdev[name] != count:
                raise Broken(f"{name}: {netdev[name]}, not {count}")
        for name in ("tx_tls_drop_bypass_req", "tx_tls_drop_no_sync_data"):
            if netdev[name] != sum(c.sum[name] for c in all_of_them):
                raise Broken(f"{name}: {netdev[name]}")
        for c in all_of_them:
            counts = c.ktls.counters.as_dict()
            names = ("tag_wait", "undone", "orphans")
            if not c.lost:
                names += ("tag_mismatch", "device_drops")
            for name in names:
                if counts[name] != c.sum[name]:
                    raise Broken(f"{name}: {counts[name]}, not {c.sum[name]}")
            if sum(counts["by_way"].values()) != c.sum["ways"]:
                raise Broken(f"ways: {counts['by_way']}, not {c.sum['ways']}")


_TRANSMITS = {"send", "again", "jump", "plan", "probe", "before", "other device", "next connection"}


def draw(seed: int, count: int) -> list[tuple[str, int]]:
    """Steps of a storm."""
    rng = random.Random(seed)
    return [
        (name, rng.getrandbits(32))
        for name in rng.choices(list(STEPS), list(STEPS.values()), k=count)
    ]


def broken(seed: int, steps: list[tuple[str, int]]) -> str:
    """The finding of a storm, empty if there is none."""
    try:
        Storm(seed).run(steps)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


def smallest(seed: int, steps: list[tuple[str, int]]) -> list[tuple[str, int]]:
    """A subset of the steps that breaks in the same way and from which no step can be left out."""
    kind = broken(seed, steps).split(":")[0]
    size = len(steps) // 2
    while size:
        at = 0
        while at < len(steps):
            fewer = steps[:at] + steps[at + size :]
            if broken(seed, fewer).split(":")[0] == kind:
                steps = fewer
            else:
                at += size
        size //= 2
    return steps


@dataclass
class Tally:
    """The result of a number of storms. counts: steps that had an effect, ways, reasons."""

    trials: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    breaks: list[str] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        self.trials += other.trials
        self.counts += other.counts
        self.breaks += other.breaks

    def __str__(self) -> str:
        counts = ", ".join(f"{name} {count}" for name, count in sorted(self.counts.items()))
        return f"{self.trials} storms; {counts}; {len(self.breaks)} breaks"


def _chunk(args: tuple[Sequence[int], str, int]) -> Tally:
    seeds, _, length = args
    total = Tally(len(seeds))
    for seed in seeds:
        steps = draw(seed, length)
        try:
            total.counts += Storm(seed).run(steps)
        except Exception as error:
            less = smallest(seed, steps)
            total.breaks.append(
                f"seed {seed}: {error}; in {len(less)} steps: {broken(seed, less)}\n    {less}"
            )
    return total


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command. The exit status is 1 if a storm broke."""
    parser = trial_parser(__doc__, engines=("model",))
    parser.add_argument("--steps", type=int, default=120, help="number of steps per storm")
    options = parser.parse_args(argv)
    return run_blocks(options, _chunk, options.steps, Tally())


if __name__ == "__main__":
    sys.exit(main())
