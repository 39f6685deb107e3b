# SPDX-License-Identifier: Apache-2.0
"""The divergence test: card, TCP, host and an attacker, and every packet seen by some of them.

A trial is one short TLS stream (`tests.divergence_plan`) through a device, a TCP and `KtlsRx`. Two
things are judged. Forged: a record was accepted that differs from what the sender sealed at that
place. Lost: `KtlsRx` without a device, fed the bytes that TCP delivered, comes to another end.

    python -m tests.divergence --engine model --trials 20000 --seed 0 --jobs 2
    python -m tests.divergence --without R1 --trials 5000

Exit status 1 names the seeds that broke; `--seed X --trials 1` runs one again. `--without` takes a
rule away (`tests.divergence_switches`) and succeeds only if a trial breaks then.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import sys
import time
from collections import Counter, deque
from functools import lru_cache

from sealane.driver import flowtable
from sealane.driver import seq as tcp
from sealane.driver.descriptors import Handle, RxMeta, RxPacket
from sealane.driver.device import Device
from sealane.driver.ktls import (
    GoOn,
    KeysNeeded,
    KtlsRx,
    RecordAccepted,
    RecordRefused,
    Rekey,
    ResyncAnswer,
    ResyncHint,
    StreamRange,
)
from sealane.driver.model.device import ModelTransport
from sealane.hdl.abi.config import VERSION_TLS13, Config

from tests.divergence_plan import Sent, Step, plan, sender
from tests.divergence_switches import RULES, receiver, without
from tests.small_tcp import HEADERS, SmallTcp, frame
from tests.test_device import FLOW

BLOCK = 100  # trials that a process does in one go
SETTLED = 50  # timestamps of the handshake
OLD = 10


class Break(AssertionError):
    """A trial that must not happen; kind: "forged", "lost" or "error"."""

    def __init__(self, kind: str, what: str) -> None:
        super().__init__(f"{kind}: {what}")
        self.kind = kind


def small_config(seed: int) -> Config:
    """The device of a trial on the model: small, so that everything runs full."""
    rng = random.Random(seed ^ 0x5EA1A4E)
    if rng.random() < 0.2:
        return Config(flows=4)
    return Config(
        flows=4, record_slots=rng.randint(2, 4), runs=rng.randint(3, 6),
        scan_limit=rng.choice((64, 300, 1 << 22)), rescan_limit=rng.choice((1, 4, 16)),
        bad_header_limit=rng.choice((1, 3, 16)), window=rng.choice((1 << 10, 1 << 30)),
    )  # fmt: skip


class Host:
    """TCP, `KtlsRx` and an honest driver, which may be late, of one stream through `device`."""

    def __init__(self, device: Device, stream: Sent, rng: random.Random, kind=KtlsRx) -> None:
        self.device, self.stream, self.random = device, stream, rng
        self.tcp = SmallTcp(stream.seq, rng.choice((300, 2000, 1 << 16)), rng.random() < 0.5)
        self.tcp.recent = SETTLED
        self.late = rng.choice((0, 0, 3, 12))  # steps until a reaction reaches the device
        self.silent = rng.choice((0, 0, 0, 0.5))  # share of answers that are never given
        next_keys = None
        if stream.version == VERSION_TLS13 and rng.random() < 0.8:
            next_keys = self._next_keys
        handle = device.tls_dev_add(FLOW, stream.keys(0), stream.seq)
        self.rx = kind(stream.keys(0), stream.seq, handle=handle, next_keys=next_keys)
        self.packets: list[RxPacket] = []
        self.records: list[RecordAccepted] = []
        self.refused: RecordRefused | None = None
        self.delivered: list[bytes] = []  # what TCP gave, as it was on the wire
        self.clock = 0
        self._places = {record.offset: record for record in stream.records}
        self._installation = 0
        self._reactions: deque[tuple[int, int, Handle, object]] = deque()
        self._raw: list[bytes] = []

    def step(self, step: Step) -> RxPacket | None:
        """One step of the plan; gives the packet back as the device left it."""
        self.clock += 1
        packet = None
        if step.what == "packet":
            packet = self._packet(step)
        elif step.what == "readd":
            self._add_again()
        else:
            self.tcp.prune()
        self._react(self.clock)
        return packet

    def finish(self) -> None:
        """The attacker goes away: what TCP has not got comes again."""
        while self.tcp.next < len(self.stream.wire) and not self.rx.closed:
            low = self.tcp.next
            payload = self.stream.wire[low : low + self.random.randint(80, 400)]
            self.step(Step(offset=low, payload=payload, card=self.random.random() < 0.9))
        while self._reactions:
            self._react(self._reactions[0][0])

    def close(self) -> None:
        """Gives the context back."""
        self.device.tls_dev_del(self.rx.handle)

    def judge(self) -> None:
        """Nothing lost that software alone would have delivered. Raises `Break`."""
        stream, wire = self.stream, b"".join(self.delivered)
        soft = KtlsRx(stream.keys(0), stream.seq)
        packet = RxPacket(wire, RxMeta(seq=stream.seq, payload_length=len(wire)))
        events = soft.feed([StreamRange(stream.seq, len(wire), packet)])
        while soft.waiting_for_keys:
            events += soft.install_next(stream.keys(soft.epoch + 1))
        records = [event for event in events if isinstance(event, RecordAccepted)]
        if [_content(r) for r in records] != [_content(r) for r in self.records]:
            raise Break("lost", f"{len(self.records)} records, {len(records)} in software")
        refused = next((event for event in events if isinstance(event, RecordRefused)), None)
        if refused != self.refused:
            raise Break("lost", f"{self.refused}, {refused} in software")

    # --- packets ----------------------------------------------------------------------------

    def _packet(self, step: Step) -> RxPacket:
        seq = tcp.add(self.stream.seq, step.offset)
        timestamp = OLD if step.old else SETTLED + self.clock
        raw = frame(seq, step.payload, timestamp, step.bad)
        if step.card:
            (packet,) = self.device.receive([raw])
            if not packet.marked and packet.frame != raw:
                raise Break("error", "an unmarked packet was changed")
            for event in self.device.events():
                self._take(self.rx.device_event(event))
        else:
            meta = RxMeta(
                seq=seq, payload_offset=HEADERS, payload_length=len(step.payload), l4_verified=1
            )
            packet = RxPacket(raw, meta)
        if not step.host or step.bad:
            return packet
        self.packets.append(packet)
        self._raw.append(step.payload)
        pieces = self.tcp.accept(seq, len(step.payload), timestamp, len(self.packets) - 1)
        ranges = []
        for start, end, index in pieces:
            source = self.packets[index]
            at = tcp.add(self.stream.seq, start)
            low = tcp.delta(at, source.meta.seq)
            self.delivered.append(self._raw[index][low : low + end - start])
            ranges.append(StreamRange(at, end - start, source))
        self._take(self.rx.feed(ranges))
        return packet

    def _add_again(self) -> None:
        rx = self.rx
        if rx.closed or rx.waiting_for_keys or rx.handle is None:
            return
        self.device.tls_dev_del(rx.handle)
        seq, number = rx.boundary
        rx.installed(self.device.tls_dev_add(FLOW, rx.info, seq, number, rx.epoch))
        self._installation += 1

    # --- kTLS -------------------------------------------------------------------------------

    def _take(self, events) -> None:
        for event in events:
            if isinstance(event, RecordAccepted):
                self.records.append(event)
                sent = self._places.get(event.offset)
                if sent is None or _content(event) != (
                    sent.content_type, sent.content, sent.number, sent.epoch, sent.offset
                ):
                    raise Break("forged", f"{event}, sent was {sent}")
            elif isinstance(event, RecordRefused):
                self.refused = event
            else:
                self._plan_reaction(event)

    def _plan_reaction(self, event) -> None:
        """Reactions keep their order; answers may get lost or come twice."""
        due = self.clock + (self.random.randint(0, self.late) if self.late else 0)
        if self._reactions:
            due = max(due, self._reactions[-1][0])
        optional = isinstance(event, ResyncAnswer | ResyncHint | GoOn)
        if optional and self.silent and self.random.random() < self.silent:
            return
        for _ in range(2 if optional and self.random.random() < 0.1 else 1):
            self._reactions.append((due, self._installation, self.rx.handle, event))

    def _react(self, now: int) -> None:
        while self._reactions and self._reactions[0][0] <= now:
            _, installation, handle, event = self._reactions.popleft()
            if isinstance(event, KeysNeeded):
                if self.rx.waiting_for_keys:
                    self._take(self.rx.install_next(self._next_keys()))
            elif isinstance(event, ResyncAnswer):
                self.device.tls_dev_resync(handle, event.seq, event.number)
            elif isinstance(event, ResyncHint):
                self.device.resync_hint(handle, event.seq, event.number)
            elif isinstance(event, GoOn):
                self.device.go_on(handle, event.park)
            elif isinstance(event, Rekey) and installation == self._installation:
                new = self.device.rekey(
                    self.rx.handle, event.keys, event.seq, event.epoch, event.number
                )
                self.rx.rekeyed(new, tcp.add(self.stream.seq, self.tcp.highest))

    def _next_keys(self):
        return self.stream.keys(self.rx.epoch + 1)


def _content(record: RecordAccepted):
    return (
        record.content_type, record.plaintext, record.number, record.epoch, record.offset
    )  # fmt: skip


def trial(seed: int, device: Device | None = None, kind=KtlsRx) -> Counter[str]:
    """One trial, on a small device of its own or on `device`; raises `Break`."""
    if device is None:
        config = small_config(seed)
        device = Device(ModelTransport(config), config)
    rng = random.Random(seed)
    host = Host(device, sender(rng), rng, kind)
    try:
        for step in plan(rng, host.stream):
            host.step(step)
        host.finish()
        host.judge()
    except Break:
        raise
    except Exception as error:
        raise Break("error", repr(error)) from error
    finally:
        host.close()
    counts = Counter(record.how.value for record in host.records)
    counts["trials"] = 1
    counts["packets"] = host.clock
    counts["refused"] = host.refused is not None
    counts["undone"] = host.rx.counters.marks_undone
    return counts


_device: Device | None = None


def _start(engine: str, rule: str | None) -> None:
    """Prepares a process. The simulated device is kept: a trial deletes its context."""
    global _device
    without(rule)
    flowtable.row = lru_cache(flowtable.row)  # all trials have one flow: the same few rows
    if engine == "rtl":
        from sealane.sim.transport import RtlTransport

        _device = Device(RtlTransport(Config()), Config())


def _block(task) -> tuple[Counter[str], list[tuple[int, str]]]:
    seeds, rule = task
    counts: Counter[str] = Counter()
    broken = []
    for seed in seeds:
        try:
            counts += trial(seed, _device, receiver(rule))
        except Break as error:
            counts.update({"trials": 1, error.kind: 1})
            broken.append((seed, str(error)))
    return counts, broken


def run(engine: str, trials: int, seed: int, jobs: int, rule: str | None = None):
    """Trials `seed` to `seed + trials - 1`: sums, and (seed, what) of those that broke."""
    ends = range(seed, seed + trials)
    blocks = [(ends[i : i + BLOCK], rule) for i in range(0, trials, BLOCK)]
    total: Counter[str] = Counter()
    broken: list[tuple[int, str]] = []
    context = multiprocessing.get_context("spawn")
    with context.Pool(jobs, _start, (engine, rule)) as pool:
        for counts, some in pool.imap_unordered(_block, blocks):
            total += counts
            broken += some
            if sys.stderr.isatty():
                line = f"\r{total['trials']} of {trials} trials, {len(broken)} broke"
                print(line, end="", file=sys.stderr, flush=True)
    if sys.stderr.isatty():
        print(file=sys.stderr)
    return total, sorted(broken)


def main(arguments: list[str] | None = None) -> int:
    """The command; see the module."""
    parser = argparse.ArgumentParser(prog="python -m tests.divergence", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--engine", choices=("model", "rtl"), default="model")
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0, help="of the first trial")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--without", choices=RULES, help="takes a rule away (model only)")
    given = parser.parse_args(arguments)
    if given.without and given.engine != "model":
        parser.error("--without is for the model")
    began = time.monotonic()
    total, broken = run(given.engine, given.trials, given.seed, given.jobs, given.without)
    rate = total["trials"] / (time.monotonic() - began)
    names = ("trials", "packets", "full", "partial", "none", "refused", "undone", "forged", "lost",
             "error")
    line = " ".join(f"{name} {total[name]}" for name in names)
    print(f"{given.engine}{' without ' + given.without if given.without else ''}: {line} "
          f"trials/s {rate:.0f}")
    for seed, what in broken[:5]:
        print(f"seed {seed}: {what[:300]}")
    return int(bool(broken) != bool(given.without))


if __name__ == "__main__":
    sys.exit(main())
