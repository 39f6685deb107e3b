# SPDX-License-Identifier: Apache-2.0
"""Commit of transmit against a reference that decides with a list of reasons."""

import random
from collections import Counter

import pytest

from rtl_tests.tx.bench import CONFIG, Bench, Frame, frames_of, random_frame
from sealane.hdl.abi.tx import TX_STATUS, TxOp, TxReason
from sealane.hdl.common.tx_layouts import Action, TxTokenKind
from sealane.hdl.tx.commit import TxCommit
from sealane.sim.unit import build
from tests.support.internet_checksum import ones_complement_sum
from tests.support.tcp_frames import Peer, Segment, Wire

OPS = {Action.ENCRYPT: TxOp.ENCRYPT, Action.DUMP: TxOp.DUMP}


@pytest.fixture(scope="module")
def commit():
    return lambda: build(TxCommit, CONFIG, name="tx_commit")


def entry_of(rng, action, frame, **fields):
    """An entry of a frame without an error, with other fields as given."""
    return {
        "action": action,
        "op": OPS.get(action, rng.choice((TxOp.NOTHING, TxOp.WIRE))),
        "cookie": rng.getrandbits(16),
        "context": rng.getrandbits(16),
        "generation": rng.getrandbits(8),
        "first_number": rng.getrandbits(64),
        "clears": len(frame.spans),
        "payload_at": frame.payload_at,
        "payload_end": frame.payload_end,
        "checksum_at": frame.checksum_at,
        "checksum_in": rng.getrandbits(16),
        "segment_sum": rng.getrandbits(16),
    } | fields


def random_item(rng):
    """(entry, verdict or None, frame or None, tags)."""
    if rng.random() < 0.15:
        token = rng.choice((TxTokenKind.ADD, TxTokenKind.CLEAR, TxTokenKind.MORE, TxTokenKind.DONE))
        has_spans = token != TxTokenKind.DONE
        verdict = {"stale": rng.getrandbits(1), "written": 3} if has_spans else None
        return {"is_token": 1, "token": token, "has_spans": has_spans}, verdict, None, []
    if rng.random() < 0.03:
        frame = Frame(rng.randbytes(rng.randrange(2500, 5000)), b"", [])
        frame.text, frame.written = frame.host, [1] * len(frame.host)
        entry = entry_of(rng, Action.DROP, frame, reason=TxReason.OVERSIZE, oversize=1)
        return entry, None, frame, []
    frame = random_frame(rng)
    action = rng.choice(
        (Action.ENCRYPT,) * 6 + (Action.PASS, Action.PASS, Action.DUMP, Action.DROP)
    )
    entry = entry_of(rng, action, frame, expected=0)
    if action == Action.PASS:
        frame.spans = []
        entry["clears"] = 0
    verdict, tags = None, []
    if action != Action.PASS and rng.random() < 0.85:
        entry["expected"] = rng.randrange(1, 1000)
        verdict = {
            "stale": rng.random() < 0.07,
            "mismatch": rng.random() < 0.07,
            "written": entry["expected"],
            "sum": rng.getrandbits(16),
        }
        if rng.random() < 0.07:
            verdict["written"] += rng.choice((-1, 1))
        tags = [rng.getrandbits(128) for _ in range(rng.choice((0, 0, 1, 1, 2, 40)))]
    elif rng.random() < 0.1:
        entry["expected"] = 1
    elif action == Action.PASS and rng.random() < 0.1:
        verdict = {"written": 0}
    if action == Action.DROP or rng.random() < 0.03:
        entry["reason"] = rng.choice([*range(1, 14), 0])
    entry.update(has_spans=verdict is not None, tags=len(tags))
    return entry, verdict, frame, tags


def judge(entry, verdict):
    """The reason, and whether the frame leaves."""
    blames = [entry.get("reason", 0)]
    if verdict:
        blames += [TxReason.STALE_KEY * verdict.get("stale", 0)]
        blames += [TxReason.TAG_MISMATCH * verdict.get("mismatch", 0)]
    written = verdict["written"] if verdict else 0
    misfit = entry["action"] == Action.DROP or (entry["action"] == Action.PASS and verdict)
    blames += [TxReason.DEVICE_ERROR * bool(written != entry.get("expected", 0) or misfit)]
    reason = next((int(blame) for blame in blames if blame), 0)
    return reason, not reason and entry["action"] in (Action.PASS, Action.ENCRYPT)


def field_of(entry, verdict):
    """The two bytes of the checksum, by integers modulo 0xFFFF."""
    change = (verdict or {}).get("sum", 0)
    value = -(entry["segment_sum"] - entry["checksum_in"] + change) % 0xFFFF
    return value.to_bytes(2, "little")


def expect(items):
    """Frames, completions and counters."""
    frames, completions, counts = [], [], Counter()
    for entry, verdict, frame, tags in items:
        if frame is None:
            counts["tokens"] += entry["token"] != TxTokenKind.MORE
            continue
        reason, leaves = judge(entry, verdict)
        names = ("op", "cookie", "context", "generation", "first_number")
        status = {name: entry[name] for name in names} | {"reason": reason, "tags": len(tags)}
        completions.append((tags, status))
        counts["frames"] += 1
        counts["tags"] += len(tags)
        if reason:
            counts["dropped"] += 1
            counts["orphans"] += reason == TxReason.ORPHAN
            counts["tag_mismatch"] += reason == TxReason.TAG_MISMATCH
        elif entry["action"] == Action.PASS:
            counts["wire" if entry["op"] == TxOp.WIRE else "passed"] += 1
            frames.append(frame.host)
        else:
            counts["encrypted" if leaves else "dumped"] += 1
            if leaves:
                frames.append(frame.encrypted(field_of(entry, verdict)))
    return frames, completions, +counts


class CommitBench(Bench):
    """Commit with its rings; entries, spans and tags come behind their frame's last word."""

    def __init__(self, unit, rng, items, idle=0.0, stall=0.0):
        sources = {"entries": idle, "verdicts": idle, "tags": idle, "clear_spans": 0.0}
        super().__init__(unit, rng, sources, {"frames": stall, "completions": stall})
        self.items = items
        self.counts = Counter()
        self._judged = iter([frame for _, verdict, frame, _ in items if verdict])
        self.on_offer["verdicts"] = self._verdict
        self.on_clock = self._count
        self._todo = list(items)
        for item in items:
            if item[2] is not None and item[0].get("oversize"):
                # Described while it comes in.
                self.rings.waiting.append((item[2], lambda: None))
                self.rings.early[id(item[2])] = self._admit_until(item)
            elif item[2] is not None:
                self.rings.waiting.append((item[2], self._admit_until(item)))

    def _admit_until(self, item):
        def admit():
            while self._todo:
                head = self._todo.pop(0)
                self._admit(*head)
                if head is item:
                    break
            # Tokens behind a frame need no frame of their own.
            while self._todo and self._todo[0][2] is None:
                self._admit(*self._todo.pop(0))

        return admit

    def _admit(self, entry, verdict, frame, tags):
        queues = {port: source.queue for port, source in self.sources.items()}
        shapes = self.unit.shapes
        queues["entries"].append(const(shapes["entries__payload"], entry))
        queues["tags"].extend(tags)
        if verdict is not None:
            queues["verdicts"].append(const(shapes["verdicts__payload"], verdict))
        elif frame is not None and not entry.get("oversize"):
            self.rings.settle(frame)
        if frame is not None:
            queues["clear_spans"].extend(start | end << 14 for start, end in frame.spans)

    def _verdict(self, _):
        frame = next(self._judged)
        if frame is not None:
            self.rings.settle(frame)

    def _count(self):
        self.counts["tokens"] += self.unit.get("token_done")
        for name, value in self.unit.fields("counts").items():
            self.counts[name] += value

    def run_all(self, **options):
        """Frames, completions and counters of all items, and the clocks that they took."""
        wanted = sum(frame is not None for _, _, frame, _ in self.items)
        beats = self.sinks["completions"].got

        def done():
            over = not self._todo and self.rings.drained()
            return (
                over
                and sum(beat >> 128 for beat in beats) == wanted
                and (not any(source.queue for source in self.sources.values()))
            )

        clocks = self.run(done, **options)
        return self.results(), clocks

    def results(self):
        """What came out so far."""
        completions, tags = [], []
        for beat in self.sinks["completions"].got:
            if beat >> 128:
                completions.append((tags, TX_STATUS.unpack(beat & (1 << 128) - 1)))
                tags = []
            else:
                tags.append(beat)
        assert not tags
        return frames_of(self.sinks["frames"].got), completions, +self.counts


def const(shape, fields):
    """A payload as an integer."""
    return shape.const(fields).as_value().value


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("idle", "stall"), [(0, 0), (0.8, 0), (0, 0.6), (0.3, 0.3)])
def test_random_frames_match_the_reference(commit, seed, idle, stall):
    rng = random.Random(f"{seed} {idle} {stall}")
    items = [random_item(rng) for _ in range(150)]
    bench = CommitBench(commit(), rng, items, idle, stall)
    assert bench.run_all()[0] == expect(items)


def encrypted_item(rng, frame, **verdict):
    """A frame without an error, all of it written."""
    entry = entry_of(rng, Action.ENCRYPT, frame, expected=77, has_spans=1, tags=1)
    return entry, {"written": 77} | verdict, frame, [rng.getrandbits(128)]


FAULTS = {
    "stale": ({"stale": 1}, TxReason.STALE_KEY),
    "mismatch": ({"mismatch": 1}, TxReason.TAG_MISMATCH),
    "a_byte_less": ({"written": 76}, TxReason.DEVICE_ERROR),
    "a_byte_more": ({"written": 78}, TxReason.DEVICE_ERROR),
    "none": ({"written": 0}, TxReason.DEVICE_ERROR),
    "stale_and_mismatch": ({"stale": 1, "mismatch": 1}, TxReason.STALE_KEY),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_drops_its_frame_and_no_other(commit, fault):
    verdict, reason = FAULTS[fault]
    rng = random.Random(fault)
    good = [encrypted_item(rng, random_frame(rng)) for _ in range(2)]
    items = [good[0], encrypted_item(rng, random_frame(rng), **verdict), good[1]]
    (frames, completions, counts), _ = CommitBench(commit(), rng, items).run_all()
    assert [status["reason"] for _, status in completions] == [0, reason, 0]
    assert frames == expect([good[0], good[1]])[0]
    assert counts["dropped"] == 1 and counts["encrypted"] == 2


def test_no_verdict_where_bytes_were_to_be_written(commit):
    """A frame with text and no spans is an error of the device, and nothing leaves."""
    rng = random.Random(1)
    item = encrypted_item(rng, random_frame(rng))
    item[0].update(has_spans=0, tags=0)
    item = item[0], None, item[2], []
    (frames, completions, _), _ = CommitBench(commit(), rng, [item]).run_all()
    assert not frames and completions[0][1]["reason"] == TxReason.DEVICE_ERROR


@pytest.mark.parametrize("waits", ["frames", "completions"])
def test_an_output_that_waits_loses_nothing(commit, waits):
    """One output takes nothing for long, with the other one open; then all comes, in order."""
    rng = random.Random(waits)
    items = [random_item(rng) for _ in range(80)]
    bench = CommitBench(commit(), rng, items)
    bench.sinks[waits].stall = 1.0
    for _ in range(3000):
        bench.clock()
    assert not bench.sinks[waits].got and bench._todo
    bench.sinks[waits].stall = 0.0
    assert bench.run_all()[0] == expect(items)


@pytest.mark.parametrize("length", [64, 500])
def test_frames_leave_back_to_back(commit, length):
    rng = random.Random(length)
    items = [encrypted_item(rng, random_frame(rng, length)) for _ in range(40)]
    (frames, _, _), clocks = CommitBench(commit(), rng, items).run_all()
    assert frames == expect(items)[0]
    assert clocks <= 40 * -(-length // 16) + 60


ENDS = {
    4: Wire(),
    6: Wire(Peer("fd00::2", 40000, 1000), Peer("fd00::1", 443, 5, b"\x02\0\0\0\0\2"), (7,), False),
}


def sealed(rng, version, header, room):
    """A host frame of one record, header first, and what must leave: another text.

    room: bytes of text and tag. The host wrote anything into the checksum field.
    """
    cut, wire = bytes([23, 3, 3, 0, 99, *range(8)])[:header], ENDS[version]
    plain, text = rng.randbytes(room), rng.randbytes(room)
    out = Segment("c2s", 5, cut + text).frame(wire)
    host = bytearray(Segment("c2s", 5, cut + plain).frame(wire))
    at = len(host) - header - room
    tcp = at - (32 if wire.timestamps else 20)
    field = tcp + 16
    host[field : field + 2] = rng.randbytes(2)
    addresses = bytes(host[tcp - (32 if version == 6 else 8) : tcp])
    end = len(host)
    pseudo = addresses + (end - tcp).to_bytes(4, "big") + b"\0\0\0\6"
    swapped = ones_complement_sum(pseudo + bytes(host[tcp:end]))
    # The lanes of the device have the first byte low.
    lanes = int.from_bytes(swapped.to_bytes(2, "big"), "little")
    difference = 0
    for i in range(room):
        difference += (text[i] - plain[i]) << 8 * ((at + header + i - tcp) % 2)
    moved = bytearray(len(host))
    moved[at + header : end] = text
    frame = Frame(
        host=bytes(host),
        text=bytes(moved),
        written=[0] * (at + header) + [1] * room,
        payload_at=at,
        payload_end=end,
        checksum_at=field,
        spans=[(at, at + header)] if header else [],
    )
    entry = entry_of(
        rng,
        Action.ENCRYPT,
        frame,
        expected=room,
        has_spans=1,
        segment_sum=lanes,
        checksum_in=int.from_bytes(host[field : field + 2], "little"),
    )
    return (entry, {"written": room, "sum": difference % 0xFFFF}, frame, []), out


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("header", [5, 13, 4, 0], ids="header{}".format)
def test_checksum_by_difference(commit, version, header):
    """Every length of text, at odd and even offsets, against frames summed from the beginning."""
    rng = random.Random(f"{version} {header}")
    pairs = [sealed(rng, version, header, room) for room in range(1, 71)]
    items = [item for item, _ in pairs]
    (frames, completions, _), _ = CommitBench(commit(), rng, items).run_all()
    assert frames == [out for _, out in pairs]
    assert not any(status["reason"] for _, status in completions)


@pytest.mark.parametrize("change", [0, 1, 0xFFFE, 0xFFFF])
@pytest.mark.parametrize("total", [0, 1, 0x8000, 0xFFFE, 0xFFFF])
def test_checksum_is_never_all_ones(commit, total, change):
    """As Linux's csum_fold: of the two forms of zero the field is 0."""
    rng = random.Random(total)
    items = []
    for given in (0, 1, total, 0xFFFE, 0xFFFF):
        entry, verdict, frame, tags = encrypted_item(rng, random_frame(rng, 64), sum=change)
        entry.update(segment_sum=total, checksum_in=given)
        items.append((entry, verdict, frame, tags))
    (frames, _, _), _ = CommitBench(commit(), rng, items).run_all()
    for (entry, verdict, frame, _), out in zip(items, frames, strict=True):
        field = out[frame.checksum_at : frame.checksum_at + 2]
        assert field == field_of(entry, verdict) and field != b"\xff\xff"
