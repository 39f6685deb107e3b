# SPDX-License-Identifier: Apache-2.0
"""Frames sent by transmit, to the byte: checksums, padding and lost writes, on the model."""

import pytest
from hypothesis import given as cases
from hypothesis import settings
from hypothesis import strategies as st

from sealane.driver.model.device import ModelTransport
from sealane.driver.model.tx.engine import TxVerdict, assemble_frame, lanes
from sealane.driver.model.tx.span import Action, TxWalked
from sealane.driver.net.parser import Parsed
from sealane.hdl.abi.config import VERSION_TLS12, VERSION_TLS13, Config
from sealane.hdl.abi.registers import OFFSET
from sealane.hdl.abi.tx import TX_COUNTERS, TxCommand, TxOp, TxReason, TxTags
from tests.support.internet_checksum import ones_complement_sum
from tests.support.tcp_frames import read
from tests.support.tx_stream import CONFIG, ROOM, V4, V6, counters, given, stream

VERSIONS = pytest.mark.parametrize("version", [VERSION_TLS12, VERSION_TLS13])


@pytest.mark.parametrize("ends", [V4, V6], ids=["ipv4", "ipv6"])
@VERSIONS
def test_tcp_checksum_of_every_length_and_offset(version, ends):
    """Odd and even offsets and lengths. The host may have left anything in the field."""
    tx = stream(version=version, ends=ends)
    tx.random_records(30, most=60)
    a = 0
    for length in range(1, 71):
        if a + length > tx.end:
            break
        result = tx.send(a, a + length)
        segment = read(result.left)
        assert segment.ip_checksum_ok and segment.tcp_checksum_ok
        assert segment.checksum_field != b"\xff\xff"
        a += length


def test_checksum_of_a_sum_of_zero():
    """If the sum is 0 the field is 0 and not 0xFFFF, as in Linux's `csum_fold`."""
    tx = stream()
    tx.record(64)
    right = bytearray(tx.frame(0, tx.wire(0, tx.end)))
    # The urgent pointer matters to nobody here and makes the sum come out as wished.
    at = read(bytes(right)).tcp_at
    right[at + 18 : at + 20] = right[at + 16 : at + 18]
    right[at + 16 : at + 18] = b"\0\0"
    host = bytearray(tx.host_frame(0, tx.plain(0, tx.end)))
    host[at + 18 : at + 20] = right[at + 18 : at + 20]
    result = tx.post(bytes(host))
    assert result.left == bytes(right) and read(bytes(right)).tcp_checksum_ok


def test_link_padding_leaves_as_zeros():
    tx = stream()
    tx.path = type(tx.path)(tx.path.client, tx.path.server, timestamps=False)
    tx.record(100)
    short = tx.host_frame(0, tx.plain(0, 2))
    assert len(short) == 60
    result = tx.post(short[:56] + b"leak")
    assert result.left == tx.frame(0, tx.wire(0, 2))


@pytest.mark.parametrize("writes", [1, 3, 1000])
def test_lost_writes_are_a_device_error(writes):
    """The count of written bytes differs. The frame is not sent, and the next one is."""
    tx = stream()
    tx.write(100, 100, 200)
    tx.transport.tx.fail_next(writes=writes)
    assert tx.send(0, 100).reason == TxReason.DEVICE_ERROR
    tx.in_order(100)
    # Its bytes were hashed in order. Sent again, they take another way.
    assert tx.sent(0, 100, given(tx, 0, 100))
    tx.transport.tx.fail_next(writes=writes)
    assert tx.dump(0, 100, **tx.detached(0, TxTags.COMPUTE)).reason == TxReason.DEVICE_ERROR


@settings(max_examples=50)
@cases(st.integers(0, 2**32), st.data())
def test_bytes_that_were_not_written_leave_as_zeros(seed, data):
    """Even if commit let it go: no payload byte of the host except those of clear spans."""
    tx = stream(seed)
    tx.random_records(3)
    frame = tx.frame(0, tx.plain(0, tx.end))
    segment = read(frame)
    start, end = segment.payload_at, segment.end
    bounds = st.integers(start, end)
    clear = sorted(data.draw(st.tuples(bounds, bounds)))
    write = sorted(data.draw(st.tuples(bounds, bounds)))
    walked = TxWalked(Action.ENCRYPT, payload_at=start, payload_end=end, clears=[tuple(clear)])
    verdict = TxVerdict(writes=[(write[0], b"\x5a" * (write[1] - write[0]))])
    field = int.from_bytes(segment.checksum_field, "little")
    head = Parsed(tcp_offset=segment.tcp_at, tcp_checksum=field, segment_sum=0xFFFF)
    left = assemble_frame(frame, head, walked, verdict)
    for at in range(start, end):
        if write[0] <= at < write[1]:
            assert left[at] == 0x5A
        else:
            assert left[at] == (frame[at] if clear[0] <= at < clear[1] else 0)
    assert left[: segment.tcp_at + 16] == frame[: segment.tcp_at + 16]


def test_wire_and_foreign_frames_leave_unchanged():
    tx = stream()
    tx.record(100)
    final = tx.frame(0, tx.wire(0, tx.end))
    assert tx.post(final, op=TxOp.WIRE).left == final
    tx.path = type(tx.path)(tx.path.server, tx.path.client)
    foreign = tx.frame(0, b"text of another connection")
    assert tx.post(foreign, op=TxOp.NOTHING).left == foreign
    want = {"tx_frames": 2, "tx_wire": 1, "tx_passed": 1}
    assert {name: n for name, n in counters(tx).items() if n} == want


def test_counters():
    tx = stream()
    tx.write(50, 50)
    tx.in_order(most=30)
    frames = counters(tx)["tx_encrypted"]
    tx.dump(0, 50, **tx.detached(0, TxTags.COMPUTE))
    tx.send(0, 50, op=TxOp.NOTHING)
    assert counters(tx) == dict.fromkeys((name for name, _ in TX_COUNTERS), 0) | {
        "tx_frames": frames + 2,
        "tx_encrypted": frames,
        "tx_dumped": 1,
        "tx_dropped": 1,
        "tx_orphans": 1,
        "tx_tags": 2,
    }


def test_room_is_never_sent():
    """The content of the room has no effect on the frame sent."""
    tx = stream()
    tx.record(50)
    payload = tx.plain(0, tx.end)[:-16]
    assert ROOM * 16 not in tx.send(0, tx.end, payload + ROOM * 16).left


def test_a_device_without_transmit():
    transport = ModelTransport(Config(tx_flows=0))
    with pytest.raises(ValueError, match="no transmit"):
        transport.post_tx(b"x", 0)
    assert transport.poll_tx() == ([], [])
    assert transport.read(OFFSET["TX_FLOWS"]) == 0
    transport.write(OFFSET["CMD_NONCE_LO"], 1)
    transport.write(OFFSET["COMMAND"], TxCommand.TX_ADD)
    assert transport.read(OFFSET["CMD_NONCE_LO"]) == transport.read(OFFSET["COUNT_TX_FRAMES"]) == 0
    with pytest.raises(ValueError, match="at least one byte"):
        ModelTransport(CONFIG).post_tx(b"", 0)


def test_ones_complement_difference():
    """The lanes of `tx_engine` are those of RFC 1071, first byte low."""
    data = bytes(range(7, 60))
    swapped = int.from_bytes(ones_complement_sum(data).to_bytes(2, "big"), "little")
    assert lanes(4, data) == swapped % 0xFFFF
    assert lanes(5, data) == ones_complement_sum(data) % 0xFFFF


HOSTILE = {
    "op": st.integers(0, 7),
    "context": st.integers(0, 5),
    "generation": st.integers(0, 255),
    "detached": st.integers(0, 1),
    "sync": st.integers(0, 1),
    "tags": st.integers(0, 3),
    "number": st.integers(0, 12),
    "offset": st.integers(0, 200),
    "record_length": st.integers(0, 300),
    "record_type": st.integers(20, 24),
}


@settings(max_examples=150)
@cases(st.integers(0, 2**32), st.sampled_from([VERSION_TLS12, VERSION_TLS13]), st.data())
def test_no_text_leaves_whatever_the_metadata_says(seed, version, data):
    """Any run of eight bytes of text would be found. Headers and nonces have no text in them.

    The device trusts the driver's word in two places: WIRE, and GIVEN where a tag lies. The
    position stays correct there.
    """
    tx = stream(seed, version=version)
    tx.random_records(8)
    text = b"|".join(r.plain[tx.header_size() : -16] for r in tx.records)
    windows = {text[i : i + 8] for i in range(len(text) - 7)}
    sent = 0
    for _ in range(12):
        a = min(tx.rng.choice((sent, sent, tx.rng.randrange(tx.end))), tx.end - 1)
        b = min(tx.end, a + tx.rng.randint(1, 200))
        fields = {"op": TxOp.ENCRYPT} | (tx.detached(a, TxTags.GIVEN) if a < sent else {})
        for name, values in HOSTILE.items():
            if tx.rng.random() < 0.07:
                fields[name] = data.draw(values, label=name)
        if fields["op"] == TxOp.WIRE:
            continue
        right = tx.detached(a, TxTags.GIVEN)
        moved = any(fields.get(n, 0) != right.get(n, 0) for n in ("offset", "record_length"))
        if fields.get("tags") == TxTags.GIVEN and moved:
            fields["tags"] = TxTags.COMPARE
        payload = tx.with_tags(a, b) if a < sent else tx.plain(a, b)
        result = tx.send(a, b, payload, **fields)
        left = result.left or b""
        assert not any(left[i : i + 8] in windows for i in range(len(left) - 7))
        if a == sent and not result.reason and fields["op"] == TxOp.ENCRYPT:
            sent = b if not fields.get("detached") else sent
