# SPDX-License-Identifier: Apache-2.0
"""Random transfers, judged packet by packet and record by record.

A trial is a short transfer (`tests/trials/transfers.py`). Its every arrival and command also goes
to the observer of `tests/trials/brute_force/rules.py`. It breaks if

- a delivered byte is wrong or lost, a marked packet does not hold the sender's text, or a byte is
  in two marked packets;
- in a stream without accidental headers: the device marks a packet that the rules forbid or does
  not mark one that they allow, or a record is fully decrypted on one side only.

    python -m tests.trials.brute_force.trial --engine model --trials 20000 --seed 0 --jobs 2

The keys are constants and protect nothing.
"""

import random
import re
import sys
from collections import Counter
from dataclasses import dataclass, field, replace

from sealane.driver.device.rx import Device
from sealane.driver.ktls.rx.events import GoOn, How, RecordAccepted, Rekey, ResyncAnswer, ResyncHint
from sealane.hdl.abi.commands import Option
from sealane.hdl.abi.config import TYPES, VERSION_TLS13, Config, header_bytes
from sealane.scripts.engines import open_engine
from tests.support.internet_checksum import checksum
from tests.support.sealed_streams import KEY_UPDATE, TICKET, Sealer, Sealer12
from tests.support.sequence_numbers import distance
from tests.support.tcp_frames import Segment
from tests.trials.brute_force.rules import Rules, TrueRecord
from tests.trials.transfers import Plan, Sealed, Transfer
from tests.trials.trial_command import run_blocks, trial_parser

CONFIGS = {
    "default": Config(),
    "small": Config(
        flows=4, record_slots=1, runs=2, scan_limit=1500, bad_header_limit=2, rescan_limit=2
    ),
    "narrow": Config(flows=4, record_slots=3, runs=3),
}
PARK_HOLD = Config().park_hold_len


@dataclass
class Trial(Plan):
    """A plan with the options of these trials. Values are probabilities again."""

    mss: tuple[int, ...] = (60, 150, 400)
    near: float = 0.5  # a cut lies in or beside a header
    wide: float = 0.0  # a retransmission is one long segment over its surroundings
    joint: float = 0.0  # it also covers the loss before, which is not retransmitted otherwise
    one_bit: float = 0.0  # the flow is for a host that looks only at the mark
    inside: float = 0.0  # a segment with bytes of a header is not lost
    never: float = 0.0  # software does not answer, send go-on or rekey at all
    twice: float = 0.0  # it does so again later
    spread: int = 0  # a reaction takes 0 to this many segments
    short: float = 0.2  # a record is as short as possible


@dataclass
class Tally:
    """The result of a number of trials."""

    trials: int = 0
    packets: int = 0
    marked: int = 0
    records: int = 0
    whole: int = 0
    counts: Counter = field(default_factory=Counter)
    breaks: list[str] = field(default_factory=list)

    def add(self, other: "Tally") -> None:
        """Adds another tally to this one."""
        for name in ("trials", "packets", "marked", "records", "whole"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.counts += other.counts
        self.breaks += other.breaks

    def __str__(self) -> str:
        counts = ", ".join(f"{name} {count}" for name, count in sorted(self.counts.items()))
        return (
            f"{self.trials} trials, {self.packets} packets ({self.marked} marked), "
            f"{self.records} records ({self.whole} whole); {counts}; "
            f"{len(self.breaks)} breaks"
        )


class CommandLog:
    """A device that notes its commands for one flow for the observer."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self.rules: Rules | None = None
        self.isn = 0
        self.handle = None
        self.options = Option.NONE

    def __getattr__(self, name):
        return getattr(self._device, name)

    def _offset(self, seq: int) -> int:
        return distance(seq, self.isn)

    def tls_dev_add(self, *args):
        self.handle = self._device.tls_dev_add(*args, options=self.options)
        return self.handle

    def tls_dev_resync(self, handle, seq, number):
        self._device.tls_dev_resync(handle, seq, number)
        if handle == self.handle:
            self.rules.answer(self._offset(seq), number)

    def resync_hint(self, handle, seq, number):
        self._device.resync_hint(handle, seq, number)
        if handle == self.handle:
            self.rules.hint(self._offset(seq), number)

    def go_on(self, handle, park):
        self._device.go_on(handle, park)
        if handle == self.handle:
            self.rules.go_on(park)

    def rekey(self, handle, keys, seq, epoch, number):
        self.handle = self._device.rekey(handle, keys, seq, epoch, number)
        self.rules.rekey(self._offset(seq), number)
        return self.handle


class Judged(Transfer):
    """A transfer with the observer beside it. `broken` says what went wrong first."""

    def __init__(self, device: Device, seed: int, plan: Trial, config: Config) -> None:
        self.truth: list[TrueRecord] = []
        self.plain = b""
        told = CommandLog(device)
        self.one_bit = random.Random(seed).random() < plan.one_bit
        told.options = Option.ONE_BIT if self.one_bit else Option.NONE
        super().__init__(told, seed, plan)
        self.rules = Rules(self.truth, config, one_bit=self.one_bit)
        self.device.rules, self.device.isn = self.rules, self.isn
        kinds = bytes(TYPES[self.version])
        looks = re.compile(b"(?=[" + re.escape(kinds) + b"]\x03\x03)")
        starts = {record.start for record in self.truth}
        self.strict = all(m.start() in starts for m in looks.finditer(self.stream))
        self.broken: str | None = None
        self.arrived = self.marked_bytes = self.whole_bytes = 0  # sets of bytes
        self.verdicts: set[int] = set()
        self.whole = 0
        self.packets_marked = 0
        self.head = self._frame_head()

    # --- the sender -----------------------------------------------------------------------

    def _seal_stream(self) -> None:
        rng, plan = self.random, self.plan
        stream, plain = bytearray(), bytearray()
        modern = self.version == VERSION_TLS13
        which = rng.randrange(2)
        if modern:
            sealer = Sealer(0x1301 + which, bytes([which + 1]) * (32 + 16 * which))
        else:
            sealer = Sealer12(bytes([which + 3]) * (16 + 16 * which), b"salt", rng.getrandbits(64))
        self.infos = [self._info(sealer)]
        epoch = number = 0
        for _ in range(rng.randrange(2, plan.records + 1)):
            start, kind, content = len(stream), 23, self._content()
            if plan.embed and rng.random() < plan.embed:
                content = self._embedded(sealer)
            padding = rng.randrange(1, 60) if modern and rng.random() < plan.padding else 0
            turns = modern and rng.random() < plan.key_updates
            if turns:
                kind, content = 22, KEY_UPDATE
                stream += sealer.key_update(padding)
                self.infos.append(self._info(sealer))
            elif rng.random() < plan.tickets:
                kind, content = 22, TICKET
                stream += sealer.seal(content, 22, padding) if modern else sealer.seal(content, 22)
            else:
                stream += sealer.seal(content, 23, padding) if modern else sealer.seal(content)
            end, text = len(stream), start + header_bytes(self.version)
            inside = content + bytes([kind]) + bytes(padding) if modern else content
            plain += stream[start:text] + inside + stream[end - 16 :]
            waits = self.one_bit or (end - start - 5 <= PARK_HOLD if modern else kind == 22)
            self.truth.append(TrueRecord(start, text, end, epoch, number, kind == 22, waits))
            self.records.append(Sealed(start, end, kind, content))
            epoch, number = (epoch + 1, 0) if turns else (epoch, number + 1)
        self.stream, self.plain = bytes(stream), bytes(plain)
        self.result.sent = len(self.records)

    def _content(self) -> bytes:
        if self.random.random() < self.plan.short:
            return self.random.randbytes(self.random.randrange(7))
        return super()._content()

    # --- the path -------------------------------------------------------------------------

    def _cuts(self, low: int, high: int) -> list[tuple[int, int]]:
        """[low, high) in segments, cut anywhere or near a header."""
        rng, mss = self.random, self.mss
        edges, at = [low], low
        while at < high:
            step = rng.choice([mss, mss, rng.randrange(1, mss + 1)])
            at = min(high, at + step)
            if at < high and rng.random() < self.plan.near:
                near = [r.start for r in self.truth if edges[-1] < r.start <= edges[-1] + mss]
                at = rng.choice(near) + rng.randrange(-1, 15) if near else edges[-1] + step
                at = min(high, max(edges[-1] + 1, at))
            edges.append(at)
        return list(zip(edges, edges[1:], strict=False))

    def _segments(self) -> list[tuple[int, int]]:
        rng, plan, total = self.random, self.plan, len(self.stream)
        self.mss = rng.choice(plan.mss)
        timed, missing = [], []
        for i, (low, high) in enumerate(self._cuts(0, total)):
            now = float(i)
            if rng.random() < plan.loss and not self._spared(low, high):
                missing.append((now, low, high))
                continue
            if rng.random() < plan.reorder:
                now += rng.randrange(1, 8) + 0.5
            timed.append((now, low, high))
            if rng.random() < plan.duplicate:
                timed.append((now + rng.randrange(20), low, high))
        joined: list[tuple[float, int, int]] = []
        for now, low, high in missing:
            if joined and rng.random() < plan.joint and low - joined[-1][2] < 4 * self.mss:
                low = joined.pop()[1]
            joined.append((now, low, high))
        for now, low, high in joined:
            again = now + rng.randrange(2, 30)
            if rng.random() < plan.wide:
                low = max(0, low - rng.randrange(4 * self.mss))
                timed.append((again, low, min(total, high + rng.randrange(4 * self.mss))))
            elif rng.random() < plan.recut:
                low = max(0, low - rng.choice([0, 0, rng.randrange(self.mss)]))
                high = min(total, high + rng.choice([0, 0, rng.randrange(2 * self.mss)]))
                for piece in self._cuts(low, high):
                    timed.append((again + rng.choice([0, 0, rng.randrange(6)]), *piece))
            else:
                timed.append((again, low, high))
        timed.sort()
        return [(low, high - low) for _, low, high in timed]

    def _spared(self, low: int, high: int) -> bool:
        if not self.plan.inside or self.random.random() >= self.plan.inside:
            return False
        return any(record.start < high and record.text > low for record in self.truth)

    def _frame_head(self) -> bytes:
        return Segment("c2s", 0, b"").frame(replace(self.wire, timestamps=False))

    def _frame(self, offset: int, data: bytes) -> bytes:
        """The IPv4 or IPv6 frame of a segment, like `tcp_frames`, but within microseconds."""
        tags = 4 * len(self.wire.vlans)
        ether, six = 14 + tags, b":" in self.wire.client.address.encode()
        head = bytearray(self.head[: ether + (40 if six else 20) + 20])
        tcp = ether + (40 if six else 20)
        if six:
            head[ether + 4 : ether + 6] = (20 + len(data)).to_bytes(2, "big")
            addresses = head[ether + 8 : ether + 40]
        else:
            head[ether + 2 : ether + 4] = (40 + len(data)).to_bytes(2, "big")
            head[ether + 10 : ether + 12] = b"\0\0"
            value = checksum(bytes(head[ether : ether + 20]))
            head[ether + 10 : ether + 12] = value.to_bytes(2, "big")
            addresses = head[ether + 12 : ether + 20]
        head[tcp + 4 : tcp + 8] = ((self.isn + offset) % 2**32).to_bytes(4, "big")
        head[tcp + 16 : tcp + 18] = b"\0\0"
        pseudo = addresses + (20 + len(data)).to_bytes(4, "big") + b"\0\0\0\6"
        value = checksum(bytes(pseudo + head[tcp:] + data))
        head[tcp + 16 : tcp + 18] = value.to_bytes(2, "big")
        return (bytes(head) + data).ljust(60, b"\0")

    # --- card and host --------------------------------------------------------------------

    def _break(self, what: str) -> None:
        self.broken = self.broken or f"packet {self.clock}: {what}"

    def _card(self, offset: int, data: bytes):
        frame, end = self._frame(offset, data), offset + len(data)
        (packet,) = self.device.receive([frame])
        before = self.rules.epoch
        may = self.rules.packet(offset, end)
        self._judge(packet, frame, offset, end, may, before)
        for event in self.device.events():
            self._take(self.ktls.device_event(event))
        return packet

    def _judge(self, packet, frame, start: int, end: int, may: bool, epoch: int) -> None:
        bits = (1 << end) - (1 << start)
        if packet.marked:
            self.packets_marked += 1
            if bits & self.marked_bytes:
                self._break(f"[{start}, {end}) marked over bytes marked before")
            self.marked_bytes |= bits
            # Only bytes sealed with keys that the device does not have yet may come out wrong.
            known = all(r.epoch == epoch for r in self.truth if r.start < end and r.end > start)
            if known and packet.payload != self.plain[start:end]:
                self._break(f"[{start}, {end}) is marked and holds not the sender's text")
            self.whole_bytes |= bits & ~self.arrived
        elif packet.frame != frame:
            self._break(f"[{start}, {end}) is not marked and was changed")
        self.arrived |= bits
        if not self.strict:
            return
        if packet.marked != may:
            said = "marked, forbidden" if packet.marked else f"reason {packet.meta.reason}, allowed"
            self._break(f"[{start}, {end}) {said} by the rules")
        if may:
            self.verdicts.update(self.rules.verified)

    def _take(self, events) -> None:
        rest = []
        for event in events:
            if isinstance(event, RecordAccepted):
                record = self.truth[self.accepted]
                bits = (1 << record.end) - (1 << record.start)
                whole = self.accepted in self.verdicts and not bits & ~self.whole_bytes
                self.whole += event.how is How.FULL
                if self.strict and whole != (event.how is How.FULL):
                    self._break(f"record {self.accepted}: {event.how}, by the rules {whole}")
                super()._take([event])
            elif isinstance(event, ResyncAnswer | ResyncHint | GoOn | Rekey):
                rest.append(event)
            else:
                super()._take([event])
        for event in rest:
            self._plan_reaction(event)

    def _plan_reaction(self, event) -> None:
        rng, plan = self.random, self.plan
        when = self.clock + plan.answer_delay + rng.randrange(plan.spread + 1)
        # Keys come in order and once each. Everything else may be lost or come again, but on its
        # side of a key change: numbers and names of parks count from it.
        when = max([when, *(t for t, e in self.reactions if isinstance(e, Rekey))])
        if isinstance(event, Rekey):
            self.reactions = [(min(t, when), e) for t, e in self.reactions]
            self.reactions.append((when, event))
            return
        if rng.random() < plan.never:
            return
        self.reactions.append((when, event))
        if rng.random() < plan.twice:
            self.reactions.append((when + rng.randrange(8), event))


HARD = Trial(records=12, largest=600, loss=0.15, duplicate=0.05, reorder=0.1)
TRIALS = {
    "in order": Trial(records=12, largest=400),
    "loss": replace(HARD),
    "many holes": replace(HARD, loss=0.4, mss=(40, 90)),
    "overlaps": replace(HARD, largest=300, loss=0.3, mss=(20, 60), wide=0.7),
    "late": replace(HARD, spread=15, twice=0.3, tickets=0.1),
    "never": replace(HARD, never=1.0, tickets=0.05),
    "keys": replace(HARD, loss=0.08, key_updates=0.15, tickets=0.15, padding=0.3, spread=6),
    "tiny": replace(HARD, largest=60, mss=(3, 11, 30), short=0.4, records=6),
    "embedded": replace(HARD, embed=0.5, spread=8, twice=0.2),
    "one bit": replace(
        HARD,
        largest=200,
        reorder=0,
        mss=(10, 20),
        near=0.0,
        short=0.0,
        wide=0.9,
        joint=0.9,
        inside=0.9,
        one_bit=1.0,
    ),
    "slots": replace(
        HARD, largest=200, loss=0.1, reorder=0.3, mss=(20, 40), near=0.0, short=0.0, recut=0.3
    ),
    "small records": replace(
        HARD,
        records=6,
        largest=60,
        loss=0.3,
        reorder=0,
        mss=(4, 8, 16),
        near=0.1,
        wide=0.9,
        joint=0.5,
        short=0.6,
    ),
    "overtaken": replace(
        HARD,
        largest=150,
        loss=0.08,
        reorder=0.2,
        duplicate=0,
        mss=(30, 60),
        key_updates=0.25,
        padding=0.9,
        short=0.1,
        spread=3,
    ),
    "parks": replace(
        HARD,
        largest=200,
        loss=0.12,
        mss=(40, 90),
        key_updates=0.1,
        tickets=0.4,
        padding=0.3,
        spread=10,
        twice=0.3,
    ),
    "big": replace(HARD, largest=5000, mss=(536, 1448), records=10),
}
# Long transfers are rare: they cost as much as fifty short ones. Faults after a change of keys
# seldom show.
ORDER = [*[n for n in TRIALS if n != "big"] * 6, *["overtaken"] * 6, "big"]


def run_trial(device: Device, config: Config, seed: int, name: str | None = None) -> Tally:
    """Runs one trial. `device` may have had others before."""
    rng = random.Random(seed)
    name = name or rng.choice(ORDER)
    transfer = Judged(device, seed, TRIALS[name], config)
    for _ in transfer.steps():
        pass
    result, rules = transfer.result, transfer.rules
    if result.wrong or result.refused or result.delivered != result.sent:
        transfer._break(
            f"{result.wrong} wrong, {result.refused} refused, "
            f"{result.delivered} of {result.sent} given out"
        )
    out = Tally(
        1,
        transfer.clock,
        transfer.packets_marked,
        result.sent,
        transfer.whole,
        Counter(
            {
                "not strict": not transfer.strict,
                "lost": rules.lost,
                "joined": rules.joined,
                "passed by": rules.passed_by,
                "overlapped": rules.overlapped,
                "evicted": rules.evicted,
                "undone": result.marks_undone,
            }
        ),
    )
    if transfer.broken:
        out.breaks.append(f"seed {seed}, {name}: {transfer.broken}")
    return out


def run_trials(seeds, engine: str = "model", config_name: str | None = None) -> Tally:
    """Runs trials one after the other on a device for each configuration, and never stops early."""
    total, devices = Tally(), {}
    for seed in seeds:
        chosen = config_name or list(CONFIGS)[seed % len(CONFIGS)]
        config = CONFIGS[chosen]
        if chosen not in devices:
            devices[chosen] = Device(open_engine(engine, config), config)
        try:
            total.add(run_trial(devices[chosen], config, seed))
        except Exception as error:  # a trial that raises is a break with a seed too
            total.trials += 1
            total.breaks.append(f"seed {seed}: {type(error).__name__}: {error}")
            devices.pop(chosen)
    return total


def _chunk(args) -> Tally:
    return run_trials(*args)


def main(argv=None) -> int:
    """Runs the command. The exit status is 1 if a trial broke."""
    parser = trial_parser(__doc__)
    parser.add_argument(
        "--config",
        choices=CONFIGS,
        help="default: all in turn on the model, only `default` on the gateware",
    )
    options = parser.parse_args(argv)
    config = options.config or ("default" if options.engine == "rtl" else None)
    return run_blocks(options, _chunk, config, Tally())


if __name__ == "__main__":
    sys.exit(main())
