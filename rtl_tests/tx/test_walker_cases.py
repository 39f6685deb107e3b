# SPDX-License-Identifier: Apache-2.0
"""The transmit walker, case by case: what it says by hand, by its model and by the gateware."""

from dataclasses import replace

import pytest

from rtl_tests.tx.walker_bench import Bench, Expected, Item
from rtl_tests.tx.walker_script import CONFIG, GENERATION, MARKER, Script, command, frame, record
from rtl_tests.walker.bench import pack, unpack
from sealane.driver.net.parser import Parsed
from sealane.hdl.abi.tx import TxCommand, TxOp, TxReason, TxTags
from sealane.hdl.common import layouts as rx
from sealane.hdl.common import tx_layouts as tx
from tests.support.tcp_frames import ACK, FIN, SYN

NONE = TxReason.NONE
SIZE = 122  # of RECORD
RECORD = record(b"a" * 101)


def test_in_order_by_hand():
    """Two records over three frames, cut in a header and in a tag: every field by hand."""
    stream = record(b"a" * 20) + record(b"b" * 3)
    cuts = [stream[:43], stream[43:62], stream[62:]]
    base = {
        "context": 2,
        "generation": 1,
        "version": 1,
        "content_type": 23,
        "key_row": 8,
        "use_row": 1,
    }
    add_item = command(TxCommand.TX_ADD, seq=MARKER, number=7, key256=1)
    key = {
        "kind": rx.SpanKind.KEY_WRITE,
        "context": 2,
        "generation": 1,
        "version": 1,
        "key256": 1,
        "key_row": 8,
        "last": 1,
    }
    token = {
        "is_token": 1,
        "token": tx.TxTokenKind.ADD,
        "has_spans": 1,
        "context": 2,
        "generation": GENERATION,
    }
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
            "context": 2,
            "generation": GENERATION,
            "ring_word": 5,
            "action": tx.Action.ENCRYPT,
            "op": TxOp.ENCRYPT,
            "cookie": seq & 0xFFFF,
            "has_spans": 1,
            "clears": len(clear),
            "expected": len(payload) - sum(end - start for start, end in clears[index]),
            "tags": tags[index][0],
            "first_number": tags[index][1],
            "payload_at": 54,
            "payload_end": 54 + len(payload),
            "checksum_at": 50,
            "checksum_in": 0x1234,
            "segment_sum": 0xABCD,
        }
        want.append((frame(seq, payload), Expected(spans[index], clear, [entry])))
        seq += len(payload)
    Bench(CONFIG).check(want)
    script = Script()
    for item, _ in want:
        script.give(item)
    script.check(stall=0.5)


def detached(number, offset=0, tags=TxTags.GIVEN, length=SIZE - 5, kind=23):
    """Metadata of a detached frame that begins in a record like RECORD."""
    fields = {"detached": 1, "number": number, "offset": offset, "tags": tags}
    return fields | ({"record_length": length, "record_type": kind} if offset else {})


def test_marker():
    """Before, straddling and at the start marker, over the wrap of sequence numbers, and when the
    stream is so far behind it that comparing would lie."""
    script = Script()
    script.add()
    assert script.reason(MARKER - SIZE, RECORD) == TxReason.BYPASS
    assert script.reason(MARKER - 10, RECORD) == TxReason.BYPASS
    assert script.reason(MARKER - 1, RECORD, op=TxOp.DUMP) == TxReason.BYPASS
    at = MARKER
    for _ in range(4):  # 0xFFFFFF00 + 4 * 122 is behind the wrap
        assert script.reason(at, RECORD) == NONE
        at += SIZE
    assert at >= 1 << 32
    assert script.reason(MARKER - 10, RECORD, **detached(0)) == TxReason.BYPASS
    for number, jump in ((10, 1 << 30), (20, (1 << 30) - 5000), (30, 1 << 30)):
        at = MARKER + jump * (number // 10)
        assert script.reason(at, RECORD, sync=1, number=number) == NONE
    assert at - MARKER > 1 << 31
    assert script.reason(at + SIZE, RECORD) == NONE
    at = MARKER + (1 << 32) - 200  # the marker's sequence number comes again
    assert script.reason(at, RECORD * 2, sync=1, number=40) == NONE
    assert script.reason(at, RECORD, **detached(40)) == NONE
    script.check()


def test_marker_while_software_sends():
    """A stream that stands still for 2^31 bytes of software's frames does not meet its marker."""
    script = Script()

    def wire(seq, payload=b"software", **more):
        assert script.reason(seq, payload, op=TxOp.WIRE, **more) == NONE

    def passes(seq):
        return script.reason(seq, b"text", op=TxOp.NOTHING) == NONE

    wire(MARKER + (1 << 30))  # no context yet
    script.add()
    for at in (-(1 << 20), -(1 << 30), 0, (1 << 30) - 9):
        wire(MARKER + at)
    wire(MARKER + (1 << 30), b"")
    wire(MARKER + (1 << 30), hit=None)
    wire(MARKER + (1 << 30), hit=3)
    assert passes(MARKER + (1 << 31) + 50)
    wire(MARKER + (1 << 30) - 8)
    assert not passes(MARKER + (1 << 31) + 50)
    script.check()


def test_numbers_do_not_wrap():
    """The last record number has no key, so that no nonce comes again."""
    script = Script()
    script.add(number=(1 << 64) - 2)
    assert script.reason(MARKER, RECORD + RECORD) == TxReason.NO_KEY
    last = {"sync": 1, "number": (1 << 64) - 1}
    assert script.reason(MARKER, RECORD, sync=1, number=(1 << 64) - 2) == TxReason.OUT_OF_ORDER
    assert script.reason(MARKER + SIZE, RECORD, **last) == TxReason.NO_KEY
    assert script.reason(MARKER + SIZE, RECORD, sync=1, number=0) == TxReason.OUT_OF_ORDER
    script.check()


def test_bytes_behind_the_ip_packet():
    """Text that the IP length leaves out does not pass as link padding."""
    script = Script()
    script.add()

    def behind(op, count, payload=b"", seq=MARKER - 50):
        item = frame(seq, payload, op)
        size = item.head.frame_bytes + count
        padded = replace(item, head=replace(item.head, frame_bytes=size))
        return script.give(padded).entries[0]["reason"]

    for op, reason in ((TxOp.NOTHING, TxReason.ORPHAN), (TxOp.ENCRYPT, TxReason.BAD_META)):
        assert behind(op, 6) == NONE
        assert behind(op, 7) == reason
    assert behind(TxOp.NOTHING, 1, b"ahead") == NONE
    assert behind(TxOp.NOTHING, 1, b"before") == TxReason.ORPHAN
    assert behind(TxOp.WIRE, 700) == NONE
    script.check()


def test_orphan():
    """Without metadata no text of the flow passes from TX_ADD to TX_RELEASE, and all else does."""
    script = Script()
    fragment = Item(
        payload=bytes(60), head=Parsed(frame_bytes=60, refused_tcp=True), meta=frame(0, b"").meta
    )
    fragment.meta["op"] = TxOp.NOTHING

    def nothing(seq, payload, **more):
        return script.reason(seq, payload, op=TxOp.NOTHING, **more)

    def fragment_passes():
        return script.give(fragment).entries[0]["reason"] == NONE

    assert nothing(MARKER, b"text") == NONE and fragment_passes()
    script.add()
    assert nothing(MARKER - 4, b"text") == NONE
    assert nothing(MARKER - 3, b"text") == TxReason.ORPHAN
    assert nothing(MARKER, b"text") == TxReason.ORPHAN
    assert nothing(MARKER, b"", flags=ACK | FIN) == NONE
    assert nothing(MARKER, b"text", hit=None) == NONE
    assert nothing(MARKER, b"text", hit=3) == NONE
    assert script.reason(MARKER, b"text", op=TxOp.WIRE) == NONE
    assert not fragment_passes()
    script.give(command(TxCommand.TX_DELETE))
    assert nothing(MARKER, b"text") == TxReason.ORPHAN and not fragment_passes()
    assert script.reason(MARKER, RECORD) == TxReason.NO_CONTEXT
    script.give(command(TxCommand.TX_RELEASE))
    assert nothing(MARKER, b"text") == NONE and fragment_passes()
    script.check()


@pytest.mark.parametrize("op", [TxCommand.TX_ADD, TxCommand.TX_RELEASE])
def test_a_reset_during_a_command(op):
    """Whatever clock a reset comes in: what the parser refused is dropped while, and only while,
    there is a context."""
    fragment = Item(
        payload=bytes(60), head=Parsed(frame_bytes=60, refused_tcp=True), meta=frame(0, b"").meta
    )
    fragment.meta["op"] = TxOp.NOTHING
    text = frame(MARKER, b"text", op=TxOp.NOTHING)
    seen = set()
    for clocks in range(12):
        bench = Bench(CONFIG)
        if op == TxCommand.TX_RELEASE:
            for first in (TxCommand.TX_ADD, TxCommand.TX_DELETE):
                bench.give(command(first, seq=MARKER))
        work = {"is_command": 1, "command": command(op, seq=MARKER).command}
        bench.unit.set("work__payload", pack(bench.layouts.work, work))
        done = bench.done[0]
        for _ in range(clocks):
            bench.unit.set("work__valid", int(bench.done[0] == done))
            bench.clock()
        bench.unit.set("work__valid", int(bench.done[0] == done))
        bench.unit.reset()
        bench.unit.set("work__valid", 0)
        bench.waiting, bench.got["entries"] = {}, []
        for item in (text, fragment):
            bench.give(item)
        for _ in range(10):
            bench.clock()
        reasons = [unpack(bench.layouts.entry, e)["reason"] for e in bench.got["entries"]]
        assert reasons in ([NONE, NONE], [TxReason.ORPHAN, TxReason.ORPHAN]), clocks
        seen.add(reasons[0])
    assert seen == {NONE, TxReason.ORPHAN}


def test_not_this_context():
    """Other generation, other flow, no context of the device, not TCP, SYN, too long."""
    script = Script()
    script.add()
    assert script.reason(MARKER, RECORD, generation=GENERATION + 1) == TxReason.NO_CONTEXT
    assert script.reason(MARKER, RECORD, context=3, hit=3) == TxReason.NO_CONTEXT
    assert script.reason(MARKER, RECORD, context=CONFIG.tx_flows + 2) == TxReason.NO_CONTEXT
    assert script.reason(MARKER, RECORD, hit=1) == TxReason.WRONG_FLOW
    assert script.reason(MARKER, RECORD, hit=None) == TxReason.WRONG_FLOW
    assert script.reason(MARKER, RECORD, flags=ACK | SYN) == TxReason.NOT_TCP
    for head, reason in (
        (Parsed(frame_bytes=60), TxReason.NOT_TCP),
        (Parsed(oversize=True), TxReason.OVERSIZE),
    ):
        item = frame(MARKER, RECORD)
        item.head = head
        assert script.give(item).entries[0]["reason"] == reason
    assert script.reason(MARKER, RECORD, flags=ACK | FIN) == NONE
    script.check()


def test_contradictions():
    """Metadata that makes no sense."""
    script = Script()
    script.add()
    assert script.reason(MARKER, RECORD) == NONE
    for fields in (
        {"op": 4},
        {"op": 7},
        {"tags": 3},
        {"tags": TxTags.GIVEN},
        detached(0) | {"sync": 1},
        detached(0, SIZE),
        detached(0, 0xFFFF),
        {"op": TxOp.DUMP, "length": SIZE - 1},
        {"op": TxOp.DUMP, "length": SIZE + 1},
        detached(0) | {"op": TxOp.DUMP},
    ):
        assert script.reason(MARKER, RECORD, **fields) == TxReason.BAD_META, fields
    assert script.reason(MARKER, b"", tags=3) == NONE  # a pure ACK
    script.check()


def test_order():
    """A jump without sync, a sync backwards, a record started twice: refused, nothing changes."""
    script = Script()
    script.add(number=5)
    assert script.reason(MARKER + 1, RECORD) == TxReason.OUT_OF_ORDER
    assert script.reason(MARKER, RECORD) == NONE
    assert script.reason(MARKER, RECORD) == TxReason.OUT_OF_ORDER
    at = MARKER + SIZE
    assert script.reason(at - 1, RECORD, sync=1, number=6) == TxReason.OUT_OF_ORDER
    assert script.reason(at, RECORD, sync=1, number=5) == TxReason.OUT_OF_ORDER
    assert script.reason(at, RECORD[:50], sync=1, number=6) == NONE  # not begun before
    assert script.reason(at + 50, RECORD, sync=1, number=6) == TxReason.OUT_OF_ORDER
    assert script.reason(at + 50, RECORD[50:], op=TxOp.DUMP) == NONE
    assert script.reason(at + SIZE, RECORD, sync=1, number=6) == TxReason.OUT_OF_ORDER
    assert script.reason(at + 500, RECORD, sync=1, number=9) == NONE
    assert script.reason(at + 500 + SIZE, RECORD) == NONE
    script.check()


def test_broken_until_sync():
    """A bad header in mid-frame: the span before it runs, and only sync goes on."""
    script = Script()
    script.add()
    wrong = script.give(frame(MARKER, RECORD + b"\x17\x03\x01" + RECORD))
    assert wrong.entries[0]["reason"] == TxReason.BAD_HEADER
    assert (len(wrong.spans), wrong.entries[0]["tags"], len(wrong.clear_spans)) == (1, 1, 1)
    assert script.reason(MARKER, RECORD) == TxReason.BROKEN
    assert script.reason(MARKER, RECORD, sync=1, number=0) == TxReason.OUT_OF_ORDER
    assert script.reason(MARKER + SIZE, RECORD, sync=1, number=1) == NONE
    assert script.reason(MARKER, RECORD, **detached(0)) == NONE
    script.check()


def test_header_cut_anywhere():
    """Each byte of a header that is wrong is found with that byte at the latest, in every cut."""
    script = Script()
    bad = (b"\x16", b"\x17\x02", b"\x17\x03\x04", b"\x17\x03\x03\x42", b"\x17\x03\x03\0\x10")
    for header in bad:
        for cut in range(1, len(header)):
            script.add()
            assert script.reason(MARKER, header[:cut]) == NONE
            assert script.reason(MARKER + cut, header[cut:] + bytes(9)) == TxReason.BAD_HEADER
        script.add()
        assert script.reason(MARKER, header) == TxReason.BAD_HEADER
    for cut in range(1, SIZE):
        script.add()
        assert script.reason(MARKER, RECORD[:cut]) == NONE
        assert script.reason(MARKER + cut, RECORD[cut:] + RECORD) == NONE
    script.check()


def test_nonce():
    """TLS 1.2: nonces count up modulo 2^64 from the first one, whatever cuts them."""
    script = Script()
    first = (1 << 64) - 2

    def with_nonce(nonce):
        return record(b"a" * 93, (nonce % (1 << 64)).to_bytes(8, "big"), 22)

    for cut in range(1, 14):
        script.add(number=3, version=0, nonce=first)
        assert script.reason(MARKER, with_nonce(first) + with_nonce(first + 1)) == NONE
        at = MARKER + 2 * SIZE
        assert script.reason(at, with_nonce(0)[:cut]) == NONE
        wrong = bytearray(with_nonce(0)[cut:])
        wrong[max(0, 12 - cut)] ^= 1
        assert script.reason(at + cut, bytes(wrong)) in (
            (TxReason.BAD_NONCE,) if cut < 13 else (NONE,)
        )
    script.add(number=3, version=0, nonce=first)
    assert script.reason(MARKER, with_nonce(first + 1)) == TxReason.BAD_NONCE
    assert script.reason(MARKER, with_nonce(first)) == TxReason.BROKEN
    assert script.reason(MARKER, with_nonce(first), sync=1, number=3) == NONE
    script.check()


def test_side_below_the_frontier():
    """A retransmission may name any place that has passed, and no other, and changes nothing."""
    script = Script()
    script.add(number=5)
    assert script.reason(MARKER, RECORD * 3 + RECORD[:60]) == NONE
    end = MARKER + 3 * SIZE + 60
    at = MARKER + 2 * SIZE
    for cut in (0, 3, 5, 6, 105, 106, 121):
        rest = (RECORD + RECORD[:60])[cut:]
        assert script.reason(at + cut, rest, **detached(7, cut)) == NONE
        assert script.reason(at + cut, rest + b"a", **detached(7, cut)) == TxReason.OUT_OF_ORDER
    under_way = end - 60
    for fields in (
        detached(9, 20),
        detached(8, 21),
        detached(8, 20, length=200),
        detached(8, 20, kind=22),
    ):
        reason = script.reason(under_way + 20, RECORD[20:60], **fields)
        assert reason == TxReason.OUT_OF_ORDER, fields
    assert script.reason(under_way + 20, RECORD[20:60], **detached(8, 20)) == NONE
    other = record(b"a" * 50)[:60]  # the header in the frame itself
    assert script.reason(under_way, other, **detached(8)) == TxReason.OUT_OF_ORDER
    # A number that is wrong by one shows where the record under way begins.
    wrong = script.give(frame(at, RECORD + RECORD[:60], **detached(8)))
    assert wrong.entries[0]["reason"] == TxReason.OUT_OF_ORDER and not wrong.spans
    wrong = script.give(frame(at - SIZE, RECORD * 2 + RECORD[:60], **detached(7)))
    assert wrong.entries[0]["reason"] == TxReason.OUT_OF_ORDER and len(wrong.spans) == 1
    # The header that metadata names: not one that TLS allows, and not that of the frame.
    assert (
        script.reason(at + 20, RECORD[20:], **detached(7, 20, length=16641)) == TxReason.BAD_HEADER
    )
    assert script.reason(at + 20, RECORD[20:], **detached(7, 20, kind=24)) == TxReason.BAD_HEADER
    assert script.reason(at + 2, RECORD[2:], **detached(7, 2, length=200)) == TxReason.BAD_HEADER
    assert script.reason(end, RECORD[60:]) == NONE
    script.check()


def test_side_row():
    """A tag is computed only if the record's beginning was hashed in front of it, unbroken."""
    script = Script()
    script.add()
    assert script.reason(MARKER, RECORD * 2) == NONE

    def dump(start, end, **more):
        fields = detached(0, start, TxTags.COMPUTE) | more
        return script.reason(MARKER + start, RECORD[start:end], op=TxOp.DUMP, **fields)

    def rest(start, number=0, tags=TxTags.COMPARE, **more):
        fields = detached(number, start, tags) | more
        return script.reason(MARKER + number * SIZE + start, RECORD[start:], **fields)

    missing = TxReason.NO_SYNC_DATA
    assert rest(40) == missing and dump(40, 50) == missing
    assert rest(0) == NONE and rest(5) == NONE  # nothing of the text comes before
    assert dump(0, 40) == NONE and rest(40) == NONE
    assert dump(0, 40) == NONE and rest(41) == missing and rest(40, 1) == missing
    assert rest(60, tags=TxTags.GIVEN) == NONE and rest(40) == NONE  # GIVEN needs no row
    assert rest(40) == missing  # it has gone on
    assert dump(0, 3) == NONE and dump(3, 20) == NONE and dump(20, 40) == NONE
    assert script.reason(MARKER + 40, RECORD[40:] + b"\x18", **detached(0, 40, TxTags.COMPUTE)) == (
        TxReason.BAD_HEADER
    )
    assert rest(40) == missing
    assert dump(0, 40) == NONE
    script.give(command(TxCommand.TX_REKEY, epoch=1, number=9))
    assert rest(40) == missing
    # Nor does it outlive a key that is cleared, or the context.
    assert dump(0, 40) == NONE
    script.give(command(TxCommand.TX_KEY_CLEAR, epoch=1))
    assert rest(40) == missing
    assert dump(0, 40) == NONE
    script.add()
    assert script.reason(MARKER, RECORD * 2) == NONE and rest(40) == missing
    script.check()


def test_keys():
    """Two keys in one frame, each record with the number of its own; no slot, no span."""
    script = Script()
    script.add(number=5)
    script.give(command(TxCommand.TX_REKEY, epoch=1, number=7))
    spans = script.give(frame(MARKER, RECORD * 4)).spans
    assert [(s["key_row"], s["number"], s["generation"]) for s in spans] == [
        (8, 5, 1),
        (8, 6, 1),
        (9, 0, 1),
        (9, 1, 1),
    ]
    script.give(command(TxCommand.TX_KEY_CLEAR, epoch=0))
    assert script.reason(MARKER, RECORD, **detached(5)) == TxReason.NO_KEY
    crossing = script.give(frame(MARKER + 2 * SIZE, RECORD, **detached(7)))
    assert crossing.spans[0]["key_row"] == 9
    script.give(command(TxCommand.TX_REKEY, epoch=0, number=10))
    spans = script.give(frame(MARKER + 4 * SIZE, RECORD * 2)).spans
    assert [(s["key_row"], s["number"], s["generation"]) for s in spans] == [(9, 2, 1), (8, 0, 2)]
    token = script.give(command(TxCommand.TX_DELETE))
    assert [entry["token"] for entry in token.entries] == [
        tx.TxTokenKind.MORE,
        tx.TxTokenKind.CLEAR,
    ]
    assert [span["key_row"] for span in token.spans] == [8, 9]
    assert script.reason(MARKER + 6 * SIZE, RECORD) == TxReason.NO_CONTEXT
    script.add()  # names go on
    assert script.give(frame(MARKER, RECORD)).spans[0]["generation"] == 3
    script.check()


def test_key_of_the_newer_slot_is_cleared():
    """The older key serves no record from the newer one's base on, though that one is gone."""
    script = Script()
    script.add(number=5)
    assert script.reason(MARKER, RECORD * 4) == NONE
    for slot in (1, 0):
        script.give(command(TxCommand.TX_REKEY, epoch=slot ^ 1, number=5))
        script.give(command(TxCommand.TX_REKEY, epoch=slot, number=7))
        script.give(command(TxCommand.TX_KEY_CLEAR, epoch=slot))
        assert script.reason(MARKER + SIZE, RECORD, **detached(6)) == NONE
        assert script.reason(MARKER + 2 * SIZE, RECORD, **detached(7)) == TxReason.NO_KEY
    script.check()


def test_refused_commands():
    """TLS 1.2 has no second key; a command for another generation changes nothing."""
    script = Script()
    done = [tx.TxTokenKind.DONE]

    def tokens(op, **fields):
        expected = script.give(command(op, **fields))
        assert len(expected.spans) == sum(e.get("has_spans", 0) for e in expected.entries)
        return [entry["token"] for entry in expected.entries]

    assert tokens(TxCommand.TX_DELETE) == done
    script.add(version=0)
    assert tokens(TxCommand.TX_REKEY, epoch=1, number=4) == done
    other = {"generation": GENERATION + 1}
    for op in (TxCommand.TX_REKEY, TxCommand.TX_KEY_CLEAR, TxCommand.TX_DELETE):
        assert tokens(op, **other) == done
    assert tokens(TxCommand.TX_RELEASE) == done  # not deleted
    assert tokens(TxCommand.TX_ADD, context=CONFIG.tx_flows) == done
    good = record(b"a", bytes(8), 21)
    assert script.reason(MARKER, good) == NONE
    assert tokens(TxCommand.TX_DELETE) == [tx.TxTokenKind.MORE, tx.TxTokenKind.CLEAR]
    assert tokens(TxCommand.TX_DELETE) == done
    script.check()


def test_clocks():
    """A full segment takes fewer clocks than it has words, unless its records are small."""
    for text, most in ((16000, 11), (1400, 24), (300, 50), (150, 90)):
        script = Script()
        script.add()
        stream = record(bytes(text)) * (1448 * 10 // text + 2)
        for at in range(0, 14480, 1448):
            assert script.reason(MARKER + at, stream[at : at + 1448]) == NONE
        clocks = script.check()
        assert max(clocks[1:]) <= most, (text, max(clocks[1:]))
    script = Script()
    script.add()
    assert script.reason(MARKER, b"") == NONE
    assert script.check()[1] == 5
