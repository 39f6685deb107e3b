# SPDX-License-Identifier: Apache-2.0
"""The transmit core: frames and metadata of each way, what is taken back, counters, keys.

Completions are made up here; the device itself is not needed. Keys protect nothing.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

import pytest
from sealane.driver import seq as tcp
from sealane.driver.descriptors import Handle
from sealane.driver.ktls.tx import KtlsTx
from sealane.driver.ktls.tx_plan import (
    Drop,
    DropReason,
    Hold,
    Plan,
    Post,
    SequenceExhausted,
    TxMode,
    Way,
)
from sealane.driver.ktls.tx_posts import NOBODY
from sealane.driver.ktls.tx_records import ROOM, TxEpoch
from sealane.driver.ktls.tx_rekey import ClearKey, InstallKey, RekeyMode
from sealane.driver.tx_frames import host_frame, split
from sealane.hdl.abi.config import VERSION_TLS12, VERSION_TLS13
from sealane.hdl.abi.tx import TX_META, TxOp, TxReason, TxTags

from tests.tcp_frames import ACK, FIN, Segment, Side, Wire
from tests.tx_by_hand import content, info, sealed

MARKER = 0xFFFFF800  # the stream wraps soon
HANDLE = Handle(3, 0x107)
NUMBER = 5
NONCE = (0xFFFFFFFFFFFFFFFE).to_bytes(8, "big")


@dataclass(frozen=True)
class Completion:
    """As a device's driver gives it."""

    cookie: int
    reason: TxReason = TxReason.NONE
    tags: dict[int, bytes] = field(default_factory=dict)


class Host:
    """TCP over a `KtlsTx`; `wire` is the stream as software would have sealed it."""

    def __init__(self, version: int = VERSION_TLS13, handle: Handle | None = HANDLE, **kwargs):
        self.path = Wire(client=Side("10.9.0.2", 40000, MARKER - 1))
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
        whole = Segment("c2s", start, payload, flags).frame(self.path)
        segment = split(whole)
        return host_frame(segment.head, segment.payload)

    def send(self, start, end, encrypt=True, **kwargs):
        return self.tx.transmit(self.frame(start, end), encrypt, **kwargs)

    def complete(self, plan, reason=TxReason.NONE, last=None):
        """Completes all frames of a plan, with the right tags; `last`: reason of the last one."""
        actions = []
        for i, post in enumerate(plan.posts):
            meta = TX_META.unpack(post.meta)
            why = last if last is not None and i + 1 == len(plan.posts) else reason
            tags = {}
            if why is TxReason.NONE and meta["op"] in (TxOp.ENCRYPT, TxOp.DUMP):
                seq = meta["seq"] if meta["op"] == TxOp.DUMP else split(post.frame).seq
                size = meta["length"] or len(split(post.frame).payload)
                start = tcp.delta(seq, MARKER)
                if meta["tags"] != TxTags.GIVEN:
                    tags = {r.count: self.tag(r) for r in self.made
                            if start <= r.end - 16 < start + size}  # fmt: skip
            actions += self.tx.completed(Completion(meta["cookie"], why, tags))
        return actions

    def sent(self, start, end, **kwargs):
        """The plan for a segment, carried out."""
        plan = self.send(start, end, **kwargs)
        assert isinstance(plan, Plan)
        self.complete(plan)
        return plan


def metas(plan):
    """The fields that are not zero, without the cookie."""
    out = []
    for post in plan.posts:
        meta = TX_META.unpack(post.meta)
        assert meta.pop("cookie")
        out.append({name: value for name, value in meta.items() if value})
    return out


def payload(post):
    return split(post.frame).payload


CONTEXT = {"context": 3, "generation": 7}


# --- records --------------------------------------------------------------------------------


def test_records_are_made_as_the_kernel_makes_them():
    host = Host()
    host.push(10, padding=3)
    assert host.plain == b"\x17\x03\x03\0\x1e" + content(10) + b"\x17\0\0\0" + ROOM
    handshake = host.tx.push(22, b"abc")
    assert handshake == b"\x17\x03\x03\0\x14abc\x16" + ROOM
    old = Host(VERSION_TLS12)
    old.push(10)
    assert old.plain == b"\x17\x03\x03\0\x22" + NONCE + content(10) + ROOM
    assert old.tx.push(22, b"")[:13] == b"\x16\x03\x03\0\x18" + b"\xff" * 8
    assert old.tx.push(23, b"")[5:13] == bytes(8)


def test_a_nonce_that_does_not_count_up_is_softwares():
    host = Host(VERSION_TLS12)
    odd = b"\x80" + bytes(7)
    first, other, third = host.push(), host.push(nonce=odd), host.push()
    assert host.sent(0, first.end).way is Way.IN_ORDER
    plan = host.sent(other.start, other.end)
    assert plan.way is Way.SOFTWARE
    assert payload(plan.posts[0]) == host.wire[other.start : other.end]
    plan = host.sent(third.start, third.end)
    assert (plan.way, metas(plan)[0]["sync"]) == (Way.IN_ORDER, 1)
    same = host.push(nonce=(1).to_bytes(8, "big"))  # the fourth: -2, -1, 0, 1
    assert not same.software_only


@pytest.mark.parametrize("handle", [HANDLE, None])
def test_a_nonce_that_the_counter_has_given_or_will_give_is_refused(handle):
    host = Host(VERSION_TLS12, handle)
    host.push()
    first = int.from_bytes(NONCE, "big")
    for step in (0, 2, 3, 1 << 32):
        taken = (first + step) % (1 << 64)
        with pytest.raises(ValueError, match="nonce"):
            host.push(nonce=taken.to_bytes(8, "big"))
    assert len(host.tx.records) == 1
    host.push(nonce=((first - 1) % (1 << 64)).to_bytes(8, "big"))
    host.push()


def test_who_gives_all_nonces_answers_for_all():
    """No device counts: a sender with nonces of its own, or with those of a capture."""
    host = Host(VERSION_TLS12, None)
    for nonce in (4, 2, 0, 6):
        host.push(nonce=nonce.to_bytes(8, "big"))
    with pytest.raises(ValueError, match="nonce"):
        host.push()  # it might come to one of those
    host.tx.rekey(info(VERSION_TLS12, 1), bytes(8))
    assert host.tx.push(23, b"")[5:13] == bytes(8)
    for wrong in (bytes(7), bytes(9)):
        with pytest.raises(ValueError, match="nonce"):
            host.tx.rekey(info(VERSION_TLS12, 2), wrong)
    assert host.tx.keys.latest.number == 1


@pytest.mark.parametrize("version", [VERSION_TLS12, VERSION_TLS13])
def test_record_numbers_do_not_begin_again(version):
    nonce = b"" if version == VERSION_TLS13 else NONCE
    tx = KtlsTx(info(version), MARKER, HANDLE, (1 << 64) - 3, nonce)
    tx.push(23, b"last but one"), tx.push(23, b"last")
    for _ in range(2):
        with pytest.raises(SequenceExhausted):
            tx.push(23, b"none")
    assert (tx.records.next_count, len(tx.records)) == ((1 << 64) - 1, 2)
    host = Host(version)
    frame = host.frame(0, tx.records.end, tx.records.plain(0, tx.records.end))
    assert tx.transmit(frame).way is Way.IN_ORDER
    frame = host.frame(14, 16, tx.records.plain(0, tx.records.end))
    assert tx.transmit(frame).way is Way.SEEK


@pytest.mark.parametrize(
    ("version", "kwargs"),
    [(VERSION_TLS13, {"nonce": NONCE}), (VERSION_TLS12, {"padding": 1}),
     (VERSION_TLS12, {"nonce": b"12"}), (VERSION_TLS13, {"data": bytes(16385)}),
     (VERSION_TLS13, {"padding": 16000})],
)  # fmt: skip
def test_what_tls_has_not_is_refused(version, kwargs):
    host = Host(version)
    with pytest.raises(ValueError, match=r"nonce|bytes"):
        host.push(**kwargs)
    assert len(host.tx.records) == 0
    with pytest.raises(ValueError, match="nonce"):
        KtlsTx(info(version), 0, nonce=b"1")


# --- frames and metadata of each way --------------------------------------------------------


def test_in_order_frames_leave_room_for_tags_and_say_no_position():
    host = Host()
    host.push(), host.push()
    plan = host.send(0, 1100)
    assert plan.way is Way.IN_ORDER
    assert metas(plan) == [CONTEXT | {"op": TxOp.ENCRYPT}]
    assert plan.posts[0].frame == host.frame(0, 1100)
    assert host.tx.expected == 1100
    assert host.made[0].outstanding == 1
    host.complete(plan)
    assert (host.made[0].tag, host.made[0].outstanding) == (host.tag(host.made[0]), 0)
    assert host.made[1].tag is None


def test_seek_and_tag_name_a_position_and_hand_tags_in():
    host = Host()
    first, second = host.push(), host.push()
    host.sent(0, host.tx.records.end)
    plan = host.send(200, 300)
    side = CONTEXT | {"op": TxOp.ENCRYPT, "side": 1, "tags": TxTags.GIVEN, "number": NUMBER}
    where = {"offset": 200, "record_length": first.length, "record_type": 23}
    assert (plan.way, metas(plan)) == (Way.SEEK, [side | where])
    assert payload(plan.posts[0]) == host.plain[200:300]
    cut = first.tag_start + 9
    plan = host.send(cut, second.tag_start + 2)
    assert (plan.way, metas(plan)) == (Way.TAG, [side | where | {"offset": cut}])
    assert payload(plan.posts[0]) == (
        host.tag(first)[9:] + host.plain[second.start : second.tag_start] + host.tag(second)[:2]
    )
    assert host.tx.counters.tag_in_bytes == {"tag": 32}
    plan = host.send(second.start, second.start + 4)
    assert metas(plan) == [side | {"number": NUMBER + 1}]
    assert (first.outstanding, host.tx.expected) == (0, host.tx.records.end)


def test_rebuild_replays_the_records_beginning_in_pieces_and_compares():
    host = Host(mode=TxMode.REBUILD)
    first = host.push()
    host.push()
    host.sent(0, host.tx.records.end)
    plan = host.send(900, first.end)
    dump = CONTEXT | {"op": TxOp.DUMP, "side": 1, "number": NUMBER}
    where = {"record_length": first.length, "record_type": 23}
    assert metas(plan) == [
        dump | {"seq": MARKER, "length": 500},
        dump | where | {"seq": tcp.add(MARKER, 500), "length": 400, "offset": 500},
        CONTEXT | where | {"op": TxOp.ENCRYPT, "side": 1, "tags": TxTags.COMPARE,
                           "number": NUMBER, "offset": 900},
    ]  # fmt: skip
    assert b"".join(post.frame for post in plan.posts[:2]) == host.plain[:900]
    assert payload(plan.posts[2]) == host.plain[900 : first.tag_start] + host.tag(first)
    assert host.tx.counters.reread_bytes == {"rebuild": 900}
    assert first.outstanding == 1
    host.complete(plan)
    assert first.outstanding == 0
    assert host.tx.counters.tag_out_bytes == {"in_order": 32, "rebuild": 16}


def test_a_jump_is_replayed_in_order_and_a_long_one_moves_the_stream():
    host = Host(gap_limit=1500)
    *_, third = host.push(), host.push(), host.push(1010), host.push()
    plan = host.send(600, 700)
    assert metas(plan) == [
        CONTEXT | {"op": TxOp.DUMP, "seq": MARKER, "length": 500},
        CONTEXT | {"op": TxOp.DUMP, "seq": MARKER + 500, "length": 100},
        CONTEXT | {"op": TxOp.ENCRYPT},
    ]
    plan.undo()
    at = third.start + 600
    plan = host.send(at, at + 100)
    sync = {"sync": 1, "number": NUMBER + 3}
    assert metas(plan) == [
        CONTEXT | sync | {"op": TxOp.DUMP, "seq": tcp.add(MARKER, third.start), "length": 500},
        CONTEXT | {"op": TxOp.DUMP, "seq": tcp.add(MARKER, third.start + 500), "length": 100},
        CONTEXT | {"op": TxOp.ENCRYPT},
    ]
    assert tcp.add(MARKER, third.start) < MARKER  # behind the wrap
    plan.undo()
    plan = host.send(third.start, at)
    assert metas(plan) == [CONTEXT | sync | {"op": TxOp.ENCRYPT}]
    assert (plan.way, host.tx.expected) == (Way.IN_ORDER, at)


@pytest.mark.parametrize("version", [VERSION_TLS12, VERSION_TLS13])
def test_software_finishes_the_frame_and_keeps_its_tags(version):
    host = Host(version, mode=TxMode.SOFTWARE)
    first, second = host.push(), host.push()
    host.sent(0, 300)
    plan = host.send(100, second.start + 100)
    assert (plan.way, metas(plan)) == (Way.SOFTWARE, [CONTEXT | {"op": TxOp.WIRE}])
    whole = host.frame(100, second.start + 100, host.wire)
    assert payload(plan.posts[0]) == split(whole).payload
    assert plan.posts[0].frame[:-1][-9:] == whole[:-1][-9:]
    assert first.tag == host.tag(first)
    assert host.tx.counters.cpu_bytes == {"software": first.text_bytes + 95 - 8 * (not version)}
    assert host.tx.expected == 300
    plan.undo()
    assert first.tag is None
    assert host.tx.counters.cpu_bytes == {}


# --- the marker, segments without payload, other devices ------------------------------------


def test_before_and_across_the_marker():
    host = Host()
    host.push()
    netdev = host.tx.netdev
    plan = host.send(-300, 0, encrypt=False)
    assert (plan.way, metas(plan)) == (None, [CONTEXT | {"op": TxOp.WIRE}])
    assert payload(plan.posts[0]) == bytes(300)
    assert (netdev.tx_tls_ooo, netdev.tx_tls_skip_no_sync_data) == (1, 1)
    plan = host.send(-300, 10, encrypt=False, final=True)
    assert metas(plan) == [CONTEXT | {"op": TxOp.WIRE}]
    assert (netdev.tx_tls_ooo, netdev.tx_tls_skip_no_sync_data) == (2, 1)
    for end in (-1, 0, 10):
        assert host.send(-300, end) == Drop(DropReason.BYPASS_REQ)
    assert host.send(-300, 10, encrypt=False) == Drop(DropReason.BYPASS_REQ)
    assert (netdev.tx_tls_ooo, netdev.tx_tls_drop_bypass_req) == (6, 4)
    assert host.tx.counters.by_way == {}
    # Far along in the stream the marker has wrapped out of sight.
    for _ in range(3):
        host.push()
    host.sent(0, host.tx.records.end)
    assert host.tx.offset(tcp.add(MARKER, -1)) == -1
    host.tx.una = (1 << 31) + 5
    assert host.tx.offset(tcp.add(MARKER, -1)) == (1 << 32) - 1


def test_orphans_are_posted_for_the_device_to_drop():
    host = Host()
    host.push()
    plan = host.send(0, 100, encrypt=False)
    assert (plan.way, metas(plan)) == (None, [CONTEXT])
    assert plan.posts[0].frame == host.frame(0, 100)
    assert (host.tx.expected, host.tx.high) == (0, 0)
    host.complete(plan, TxReason.ORPHAN)
    assert (host.tx.counters.orphans, host.tx.counters.device_drops) == (1, 0)


@pytest.mark.parametrize("flags", [ACK, ACK | FIN])
def test_segments_without_payload_pass_unchanged_in_any_state(flags):
    host = Host()
    host.push()
    host.tx.tls_offload_tx_resync_request()
    for at in (-1, 0, 500, host.tx.records.end, host.tx.records.end + 1):
        frame = host.frame(at, at, flags=flags)
        plan = host.tx.transmit(frame)
        assert (plan.way, plan.posts[0].frame, metas(plan)) == (None, frame, [CONTEXT])
    assert host.tx.netdev.tx_tls_ooo == 0
    assert (host.tx.expected, host.tx.high, host.tx.resync) == (0, 0, 0)


def test_fin_with_data_goes_in_order_with_its_flags():
    host = Host()
    host.push(100)
    end = host.tx.records.end
    frame = host.frame(0, end, flags=ACK | FIN)
    plan = host.tx.transmit(frame)
    assert (plan.way, plan.posts[0].frame, host.tx.expected) == (Way.IN_ORDER, frame, end)
    host.tx.acked(tcp.add(MARKER, end + 1))
    assert (len(host.tx.records), host.tx.una) == (0, end + 1)


def test_by_another_device_or_without_one_software_encrypts():
    host = Host()
    first = host.push()
    for other in (object(), Host()):
        plan = host.send(0, 600, device=other)
        assert (plan.way, payload(plan.posts[0])) == (Way.SOFTWARE, host.wire[:600])
    assert host.send(0, 600, device=host).way is Way.IN_ORDER
    host.tx.deleted()
    plan = host.send(0, first.end)
    assert (plan.way, payload(plan.posts[0])) == (Way.SOFTWARE, host.wire)
    meta = TX_META.unpack(plan.posts[0].meta)  # the context may soon be another connection's
    assert (meta["op"], meta["context"], meta["cookie"]) == (TxOp.WIRE, NOBODY, 0)
    none = Host(handle=None)
    none.push()
    plan = none.send(0, 600)
    assert (plan.way, payload(plan.posts[0])) == (Way.SOFTWARE, none.wire[:600])
    assert none.tx.rekey(info(VERSION_TLS13, 1)) == []
    assert none.tx.stat.TlsTxRekeyError == 0


# --- acknowledgements -----------------------------------------------------------------------


def test_released_records_are_dropped_and_partly_acknowledged_ones_kept():
    host = Host()
    first, second = host.push(), host.push()
    host.sent(0, host.tx.records.end)
    ooo = host.tx.netdev.tx_tls_ooo
    host.tx.acked(tcp.add(MARKER, second.start + 10))
    for start, end in ((0, 10), (first.end - 1, first.end), (first.end - 1, second.end)):
        assert host.send(start, end) == Drop(DropReason.NO_SYNC_DATA)
    assert host.tx.netdev.tx_tls_drop_no_sync_data == 3
    assert host.tx.netdev.tx_tls_ooo == ooo + 3
    assert host.send(second.start, second.start + 20).way is Way.SEEK
    host.tx.acked(tcp.add(MARKER, 5))  # an old one
    assert host.tx.una == second.start + 10


# --- taking back ----------------------------------------------------------------------------


def state(host):
    tx = host.tx
    records = [(r.tag, r.outstanding, r.from_stream, r.unknown) for r in tx.records]
    kept = (tx.expected, tx.high, tx.resync, tx._resync_way, tx._syncs, dict(tx._flights))
    counters = asdict(tx.counters) | {"undone": 0}
    return records, kept, counters, asdict(tx.netdev), asdict(tx.stat)


@pytest.mark.parametrize("mode", list(TxMode))
@pytest.mark.parametrize("lost", [False, True])
def test_undo_restores_everything(mode, lost):
    host = Host(mode=mode, gap_limit=1200)
    for _ in range(5):
        host.push()
    host.sent(0, 1500)
    if lost:
        host.tx.tls_offload_tx_resync_request()
    for start, end in ((1500, 1700), (100, 300), (100, 1030), (1400, 1600), (1800, 1900),
                       (4200, 4300), (2044, 2200)):  # fmt: skip
        before = state(host)
        plan = host.send(start, end)
        assert plan.posts
        assert state(host) != before
        plan.undo()
        assert state(host) == before
        again = host.send(start, end)
        assert [p.frame for p in again.posts] == [p.frame for p in plan.posts]
        again.undo()
        assert host.tx.counters.undone % 2 == 0


def test_only_the_latest_plan_can_be_taken_back_and_once():
    host = Host()
    host.push()
    first, second = host.send(0, 100), host.send(100, 200)
    with pytest.raises(ValueError, match="latest"):
        first.undo()
    second.undo()
    assert host.tx.expected == 100
    with pytest.raises(ValueError, match="once"):
        second.undo()
    assert host.tx.counters.undone == 1


# --- views ----------------------------------------------------------------------------------


@pytest.mark.parametrize("frozen", [True, False])
def test_a_view_of_items_that_are_no_bytes(frozen):
    """A view's length is that of its items, a record's that of its bytes."""
    words = content(400)
    view = memoryview(bytearray(words)).cast("I")
    one, other = Host(), Host()
    assert one.tx.push(23, view, frozen) == other.tx.push(23, words)
    assert one.tx.push(23, view[:0], frozen) == other.tx.push(23, b"")
    with pytest.raises(ValueError, match="gaps"):
        one.tx.push(23, view[::2], frozen)
    with pytest.raises(ValueError, match="at most"):
        one.tx.push(23, memoryview(bytes(20000)).cast("I"), frozen)
    assert (len(one.tx.records), one.tx.records.end) == (2, other.tx.records.end)


# --- tags -----------------------------------------------------------------------------------


def test_text_that_may_change_waits_for_the_tag_that_is_under_way():
    data = bytearray(content(1000))
    host = Host()
    record = host.push(data=memoryview(data), frozen=False)
    plan = host.send(0, record.end)
    assert host.send(500, record.end) == Hold((NUMBER,))
    assert host.tx.counters.tag_wait == 1
    host.complete(plan)
    assert host.send(500, record.end).way is Way.TAG


def test_the_rest_of_a_tag_is_told_of_before_its_beginning():
    """The tag is still to come: nothing has to be given up."""
    host = Host()
    record = host.push(data=memoryview(bytearray(content(1000))), frozen=False)
    first, second = host.send(0, record.end - 10), host.send(record.end - 10, record.end)
    host.complete(second)
    assert host.send(500, record.end) == Hold((NUMBER,))
    host.complete(first)
    assert host.send(500, record.end).way is Way.TAG
    assert host.tx.netdev.tx_tls_drop_no_sync_data == 0


def test_software_sends_no_second_tag():
    data = bytearray(content(1000))
    host = Host(mode=TxMode.SOFTWARE)
    record = host.push(data=memoryview(data), frozen=False)
    host.sent(0, record.end)
    data[77] ^= 1
    before = state(host)[:2]
    assert host.send(500, record.end) == Drop(DropReason.TAG_MISMATCH)
    assert state(host)[:2] == before
    assert host.tx.counters.tag_mismatch == 1
    data[77] ^= 1
    assert host.send(500, record.end).way is Way.SOFTWARE


def test_a_frame_that_failed_brings_no_tag_and_is_rebuilt():
    host = Host()
    record = host.push()
    plan = host.send(0, record.end)
    host.complete(plan, TxReason.DEVICE_ERROR)
    assert (record.tag, record.outstanding, host.tx.resync) == (None, 0, None)
    assert host.tx.counters.device_drops == 1
    plan = host.send(0, record.end)
    assert plan.way is Way.REBUILD
    host.complete(plan)
    assert record.tag == host.tag(record)
    plan = host.send(0, record.end)
    assert plan.way is Way.TAG
    host.complete(plan, TxReason.TAG_MISMATCH)
    assert (host.tx.counters.tag_mismatch, host.tx.counters.device_drops) == (1, 1)


def test_the_rest_of_a_tag_that_left_unseen_marks_the_record():
    """The frame with the first tag bytes fails, the one with the others leaves: some value of the
    tag is on the wire and nobody knows it."""
    for frozen in (False, True):
        host = Host()
        record = host.push(frozen=frozen)
        host.push()
        cut = record.tag_start + 5
        head, rest = host.send(0, cut), host.send(cut, record.end + 50)
        assert record.outstanding == 2
        host.complete(head, TxReason.DEVICE_ERROR)
        assert record.outstanding == 1
        host.complete(rest)
        assert record.unknown
        got = host.send(0, cut)
        if frozen:
            assert got.way is Way.REBUILD
        else:
            assert got == Drop(DropReason.NO_SYNC_DATA)


def test_a_tag_of_the_stream_is_told_from_one_that_a_side_frame_brought():
    host = Host()
    first, second = host.push(), host.push()
    host.sent(0, first.end)
    assert first.from_stream
    host.complete(host.send(first.end, second.end), TxReason.DEVICE_ERROR)
    host.sent(first.end, second.end)
    assert (second.tag, second.from_stream) == (host.tag(second), False)


def test_completions_of_nobodys_frames_change_nothing():
    host = Host()
    record = host.push()
    plan = host.send(0, record.end)
    assert host.tx.completed(Completion(999, TxReason.NONE, {NUMBER: bytes(16)})) == []
    host.complete(plan)
    host.complete(plan, TxReason.BROKEN)  # twice
    assert (record.tag, host.tx.resync) == (host.tag(record), None)
    plan = host.send(0, record.end)
    (cookie,) = (TX_META.unpack(post.meta)["cookie"] for post in plan.posts)
    host.tx.completed(Completion(cookie, TxReason.NONE, {NUMBER: bytes(16), 77: bytes(16)}))
    assert record.tag == host.tag(record)


# --- the stream is lost ---------------------------------------------------------------------


@pytest.mark.parametrize("reason", list(TxReason)[1:])
def test_what_a_failed_stream_frame_means(reason):
    host = Host()
    _, second, third = host.push(), host.push(), host.push()
    host.complete(host.send(0, second.start + 10), reason)
    walked = reason in (TxReason.TAG_MISMATCH, TxReason.STALE_KEY, TxReason.DEVICE_ERROR)
    assert host.tx.tls_offload_tx_resync_pending is not walked
    assert host.tx.eor == (None if walked else third.start)
    if not walked:
        plan = host.send(second.start + 10, third.start)
        assert (plan.way, payload(plan.posts[0])) == (
            Way.NEXT_RECORD, host.wire[second.start + 10 : third.start],
        )  # fmt: skip
        plan = host.send(third.start, third.end)
        assert (plan.way, metas(plan)[0]["sync"]) == (Way.NEXT_RECORD, 1)
        assert not host.tx.tls_offload_tx_resync_pending
        assert host.tx.expected == third.end


def test_failures_from_before_the_stream_was_moved_do_not_count():
    host = Host()
    _, second, third = host.push(), host.push(), host.push()
    one, two = host.send(0, 300), host.send(300, 600)
    host.complete(one, TxReason.BAD_HEADER)
    assert host.tx.resync == second.start
    assert host.send(600, second.start).way is Way.NEXT_RECORD
    moved = host.send(second.start, third.start)
    host.complete(two, TxReason.BROKEN)
    assert host.tx.resync is None
    host.complete(moved)
    assert host.send(third.start, third.end).way is Way.IN_ORDER


def test_a_failed_side_frame_says_nothing_of_the_stream():
    host = Host()
    host.push()
    host.sent(0, 500)
    host.complete(host.send(0, 100), TxReason.OUT_OF_ORDER)
    assert (host.tx.resync, host.tx.counters.device_drops) == (None, 1)


def test_counters_by_way_and_by_bytes():
    host = Host()
    first, second = host.push(), host.push()
    sizes = []
    for start, end in ((0, first.end), (100, 200), (900, first.end), (first.end + 300, second.end)):
        plan = host.sent(start, end)
        sizes.append(len(plan.posts[-1].frame))
    counters, netdev = host.tx.counters, host.tx.netdev
    assert counters.by_way == {"in_order": 1, "seek": 1, "tag": 1, "rebuild": 1}
    assert list(counters.frame_bytes.values()) == sizes
    assert counters.reread_bytes == {"rebuild": 300}
    assert counters.tag_in_bytes == {"tag": 16}
    assert counters.tag_out_bytes == {"in_order": 16, "rebuild": 16}
    assert netdev.tx_tls_ooo == 3
    # What the device did is counted where its completions are.
    assert (netdev.tx_tls_encrypted_packets, netdev.tx_tls_dump_packets) == (0, 0)


# --- keys -----------------------------------------------------------------------------------


def test_rekey_by_epochs_does_not_pause():
    host = Host()
    first = host.push()
    host.sent(0, 500)
    keys = info(VERSION_TLS13, 1)
    (install,) = host.tx.rekey(keys)
    assert install == InstallKey(1, TxEpoch(1, keys, NUMBER + 1, first.end))
    second = host.push()
    early = host.send(500, second.start + 9)
    assert early.way is Way.SOFTWARE  # the key is not there yet
    early.undo()
    assert host.tx.key_installed(True) == []
    assert host.tx.stat.TlsTxRekeyOk == 1
    plan = host.sent(500, second.end)
    assert plan.way is Way.IN_ORDER
    late = host.send(0, 50)
    assert late.way is Way.SEEK
    assert host.tx.acked(tcp.add(MARKER, first.end)) == []  # it is under way
    assert host.complete(late) == [ClearKey(0)]


def test_rekey_with_a_gap_is_softwares_until_everything_old_is_acknowledged():
    host = Host(rekey_mode=RekeyMode.GAP)
    first = host.push()
    host.sent(0, 500)
    keys = info(VERSION_TLS13, 1)
    assert host.tx.rekey(keys) == []
    second, third = host.push(), host.push()
    assert host.sent(500, first.end).way is Way.IN_ORDER
    plan = host.sent(second.start, second.start + 700)
    assert (plan.way, payload(plan.posts[0])) == (
        Way.SOFTWARE, host.wire[second.start : second.start + 700],
    )  # fmt: skip
    assert host.sent(0, 100).way is Way.SEEK
    assert host.tx.acked(tcp.add(MARKER, first.end - 1)) == []
    (install,) = host.tx.acked(tcp.add(MARKER, first.end))
    assert (install.slot, install.epoch.base, install.epoch.info) == (1, NUMBER + 1, keys)
    assert host.tx.eor is None
    assert host.tx.key_installed(True) == [ClearKey(0)]
    assert host.tx.eor == third.start
    assert host.sent(second.start + 700, second.end).way is Way.SOFTWARE
    plan = host.sent(third.start, third.end)
    assert (plan.way, metas(plan)[0]["sync"]) == (Way.IN_ORDER, 1)
    assert host.tx.eor is None
    assert host.sent(second.start, second.start + 100).way is Way.SEEK
    assert host.tx.stat.TlsTxRekeyOk == 1


def test_a_key_that_cannot_be_installed_is_counted_and_stays_softwares():
    host = Host()
    host.push()
    host.tx.rekey(info(VERSION_TLS13, 1))
    assert host.tx.key_installed(False) == [ClearKey(1)]
    second = host.push()
    assert host.sent(0, second.start).way is Way.IN_ORDER
    plan = host.sent(second.start, second.end)
    assert (plan.way, payload(plan.posts[0])) == (Way.SOFTWARE, host.wire[second.start :])
    assert host.tx.rekey(info(VERSION_TLS13, 2)) == []
    assert (host.tx.stat.TlsTxRekeyOk, host.tx.stat.TlsTxRekeyError) == (0, 2)


def test_tls12_goes_on_in_software_under_new_keys():
    host = Host(VERSION_TLS12)
    first = host.push()
    assert host.tx.rekey(info(VERSION_TLS12, 1)) == []
    second = host.push()
    assert second.header[5:] == bytes(8)
    assert host.sent(0, first.end).way is Way.IN_ORDER
    plan = host.sent(second.start, second.end)
    assert (plan.way, payload(plan.posts[0])) == (Way.SOFTWARE, host.wire[second.start :])
    assert host.tx.stat.TlsTxRekeyError == 0


def test_the_marker_ends_a_segment_until_something_behind_it_was_sent():
    host = Host()
    host.push()
    assert host.tx.eor == 0
    host.send(-10, 0, encrypt=False)
    assert host.tx.eor == 0
    plan = host.send(0, 10)
    assert host.tx.eor is None
    plan.undo()
    assert host.tx.eor == 0
    assert plan.posts == [Post(post.frame, post.meta) for post in plan.posts]
