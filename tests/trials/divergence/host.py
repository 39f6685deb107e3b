# SPDX-License-Identifier: Apache-2.0
"""The host of a trial of `tests.trials.divergence.trial`: TCP, `KtlsRx`, driver and judge."""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass

from sealane.driver.device.descriptors import DeviceEvent, Handle, RxMeta, RxPacket
from sealane.driver.device.rx import Device
from sealane.driver.ktls.rx.events import (
    GoOn,
    KeysNeeded,
    RecordAccepted,
    RecordRefused,
    Rekey,
    ResyncAnswer,
    ResyncHint,
)
from sealane.driver.ktls.rx.offload import KtlsRx, StreamRange
from sealane.driver.ktls.rx.resync import ResyncMode
from sealane.hdl.abi.commands import OPTION_BITS, Option
from sealane.hdl.abi.config import VERSION_TLS13
from sealane.hdl.abi.events import EventKind
from tests.support.flow_frames import FLOW, HEADERS, TIMESTAMPS, frame
from tests.support.sequence_numbers import distance
from tests.support.small_tcp import SmallTcp
from tests.trials.divergence.attacks import Step
from tests.trials.divergence.plan import Sent

SETTLED = 50  # timestamps of the handshake
OLD = 10


class Break(AssertionError):
    """A trial result that must not occur. kind: "forged", "lost" or "error"."""

    def __init__(self, kind: str, what: str) -> None:
        super().__init__(f"{kind}: {what}")
        self.kind = kind


@dataclass(frozen=True)
class Habits:
    """How a host behaves.

    window, keep_last: see `SmallTcp`. lag: packets between the device and TCP. late: maximum number
    of steps until a request of kTLS reaches the device. silent: share of answers that are never
    given. failing: the device takes no new keys. knows_keys: kTLS has the keys after a KeyUpdate at
    once.
    """

    window: int = 1 << 16
    keep_last: bool = False
    lag: int = 0
    late: int = 0
    silent: float = 0
    failing: bool = False
    knows_keys: bool = False
    options: Option = Option.NONE
    resync_mode: ResyncMode = ResyncMode.DRIVER_REQ


def draw_habits(rng: random.Random, version: int) -> Habits:
    """Habits of a trial over a stream of that TLS version."""
    return Habits(
        window=rng.choice((300, 2000, 1 << 16)),
        keep_last=rng.random() < 0.5,
        lag=rng.choice((0, 0, 0, 2, 6)),
        late=rng.choice((0, 0, 3, 12)),
        silent=rng.choice((0, 0, 0, 0.5)),
        failing=rng.random() < 0.1,
        knows_keys=version == VERSION_TLS13 and rng.random() < 0.8,
        options=Option(rng.choice((0, Option.TAG_PROOF, rng.randrange(1 << OPTION_BITS)))),
        resync_mode=rng.choice((ResyncMode.DRIVER_REQ,) * 6 + tuple(ResyncMode)),
    )


class Host:
    """TCP, `KtlsRx` and an honest driver, which may be late, of one stream through `device`."""

    def __init__(
        self, device: Device, stream: Sent, rng: random.Random, habits: Habits, kind=KtlsRx
    ) -> None:
        self.device, self.stream, self.random, self.habits = device, stream, rng, habits
        self.tcp = SmallTcp(stream.seq, habits.window, habits.keep_last)
        self.tcp.recent = SETTLED
        next_keys = self._next_keys if habits.knows_keys else None
        handle = device.tls_dev_add(FLOW, stream.keys(0), stream.seq, options=habits.options)
        self.rx = kind(
            stream.keys(0),
            stream.seq,
            handle=handle,
            next_keys=next_keys,
            resync_mode=habits.resync_mode,
        )
        self.packets: list[RxPacket] = []
        self.records: list[RecordAccepted] = []
        self.refused: RecordRefused | None = None
        self.delivered: list[bytes] = []  # bytes that TCP delivered, as on the wire
        self.clock = 0
        # Sealed records by their places in the stream.
        self._places = {record.offset: record for record in stream.records}
        self._installation = 0
        # Time, installation, handle and reaction. The second one holds repetitions.
        self._reactions: deque[tuple[int, int, Handle, object]] = deque()
        self._again: list[tuple[int, int, Handle, object]] = []
        self._ring: deque[tuple[RxPacket, bytes, int]] = deque()
        self._raw: list[bytes] = []

    def step(self, *steps: Step) -> RxPacket | None:
        """Runs one step of the plan, or several packets at once.

        Returns the last packet as the device passed it on.
        """
        self.clock += len(steps)
        packet = None
        if steps[0].what == "packet":
            packet = self._packets(steps)
        elif steps[0].what == "readd":
            self._add_again()
        else:
            self.tcp.prune()
        self._react(self.clock)
        return packet

    def finish(self) -> None:
        """The attacker goes away: what TCP lacks comes again."""
        self._to_tcp(0)
        while self.tcp.next < len(self.stream.wire) and not self.rx.closed:
            low = self.tcp.next
            payload = self.stream.wire[low : low + self.random.randint(80, 400)]
            self.step(Step(offset=low, payload=payload, card=self.random.random() < 0.9))
            self._to_tcp(0)
        while self._reactions:
            self._react(self._reactions[0][0])

    def close(self) -> None:
        """Gives the context back."""
        if self.rx.handle:
            self.device.tls_dev_del(self.rx.handle)

    def judge(self) -> None:
        """Nothing is lost that software alone would have delivered. Raises `Break`."""
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

    def _packets(self, steps) -> RxPacket:
        frames = []
        for i, step in enumerate(steps):
            at = (self.stream.seq + step.offset) % 2**32
            timestamp = OLD if step.old else SETTLED + self.clock + i
            frames.append((at, timestamp, frame(at, step.payload, timestamp, step.bad)))
        shown = [raw for step, (_, _, raw) in zip(steps, frames, strict=True) if step.card]
        received = iter(self.device.receive(shown) if shown else ())
        for event in self.device.events() if shown else ():
            self._take(self.rx.device_event(event))
            if self.rx.resync.async_open and event.kind == EventKind.RESYNC_REQUEST:
                self._plan_reaction(event)
        for step, (at, timestamp, raw) in zip(steps, frames, strict=True):
            if step.card:
                packet = next(received)
                if not packet.marked and packet.frame != raw:
                    raise Break("error", "an unmarked packet was changed")
            else:
                meta = RxMeta(
                    seq=at,
                    payload_offset=HEADERS + TIMESTAMPS,
                    payload_length=len(step.payload),
                    l4_verified=1,
                )
                packet = RxPacket(raw, meta)
            if step.host and not step.bad:
                self._ring.append((packet, step.payload, timestamp))
        self._to_tcp(self.habits.lag)
        return packet

    def _to_tcp(self, lag: int) -> None:
        while len(self._ring) > lag:
            packet, payload, timestamp = self._ring.popleft()
            self.packets.append(packet)
            self._raw.append(payload)
            pieces = self.tcp.accept(
                packet.meta.seq, len(payload), timestamp, len(self.packets) - 1
            )
            ranges = []
            for start, end, index in pieces:
                source = self.packets[index]
                at = (self.stream.seq + start) % 2**32
                low = distance(at, source.meta.seq)
                self.delivered.append(self._raw[index][low : low + end - start])
                ranges.append(StreamRange(at, end - start, source))
            self._take(self.rx.feed(ranges))

    @property
    def _received_end(self) -> int:
        """End of everything that the device has passed on and TCP may still take."""
        end = self.tcp.highest
        for packet, payload, _ in self._ring:
            ahead = distance(packet.meta.seq, (self.stream.seq + end) % 2**32) + len(payload)
            end += ahead if 0 < ahead < 1 << 20 else 0
        return (self.stream.seq + end) % 2**32

    def _add_again(self) -> None:
        rx = self.rx
        if rx.closed or rx.waiting_for_keys:
            return
        if rx.handle:
            self.device.tls_dev_del(rx.handle)
        seq, number = rx.boundary
        rx.installed(
            self.device.tls_dev_add(FLOW, rx.info, seq, number, rx.epoch, self.habits.options)
        )
        self._installation += 1

    # --- kTLS -------------------------------------------------------------------------------

    def _take(self, events) -> None:
        for event in events:
            if isinstance(event, RecordAccepted):
                self.records.append(event)
                sent = self._places.get(event.offset)
                if sent is None or _content(event) != (
                    sent.content_type,
                    sent.content,
                    sent.number,
                    sent.epoch,
                    sent.offset,
                ):
                    raise Break("forged", f"{event}, sent was {sent}")
            elif isinstance(event, RecordRefused):
                self.refused = event
            else:
                self._plan_reaction(event)

    def _plan_reaction(self, event) -> None:
        """Queues reactions in order. Answers may get lost or come twice."""
        due = self.clock + self.random.randint(0, self.habits.late)
        if self._reactions:
            due = max(due, self._reactions[-1][0])
        optional = isinstance(event, ResyncAnswer | ResyncHint | GoOn)
        if optional and self.random.random() < self.habits.silent:
            return
        reaction = (due, self._installation, self.rx.handle, event)
        self._reactions.append(reaction)
        if optional and self.random.random() < 0.1:
            self._again.append((due + self.random.randint(0, 20), *reaction[1:]))

    def _react(self, now: int) -> None:
        while self._reactions and self._reactions[0][0] <= now:
            self._do(*self._reactions.popleft()[1:])
        for reaction in [r for r in self._again if r[0] <= now]:
            self._again.remove(reaction)
            self._do(-1, *reaction[2:])

    def _do(self, installation: int, handle: Handle, event) -> None:
        """Carries out a reaction, or one of an earlier installation, which changes nothing."""
        rx, in_force = self.rx, installation == self._installation
        if in_force:
            handle = rx.handle or handle
        if isinstance(event, KeysNeeded):
            if rx.waiting_for_keys:
                self._take(rx.install_next(self._next_keys()))
        elif isinstance(event, DeviceEvent):
            self._take(rx.async_end(event.candidate_seq))
        elif isinstance(event, ResyncAnswer):
            self.device.tls_dev_resync(handle, event.seq, event.number)
        elif isinstance(event, ResyncHint):
            self.device.resync_hint(handle, event.seq, event.number)
        elif isinstance(event, GoOn):
            self.device.go_on(handle, event.park)
        elif isinstance(event, Rekey) and in_force and rx.handle:
            if self.habits.failing:
                self.device.tls_dev_del(rx.handle)
                rx.rekey_failed()
                return
            new = self.device.rekey(rx.handle, event.keys, event.seq, event.epoch, event.number)
            rx.rekeyed(new, self._received_end)

    def _next_keys(self):
        return self.stream.keys(self.rx.epoch + 1)


def _content(record: RecordAccepted):
    return (record.content_type, record.plaintext, record.number, record.epoch, record.offset)
