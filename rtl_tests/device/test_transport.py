# SPDX-License-Identifier: Apache-2.0
"""The simulated device's ports: frames that are nobody's pass as they are, registers answer, and
neither direction waits for the host of the other."""

import random

import pytest

from rtl_tests.device.rx_traffic import TrafficFlow
from rtl_tests.support.pair import TX_SMALL, together
from sealane.driver.device.rx import Device
from sealane.driver.device.transport import Completion, TxOutput
from sealane.hdl.abi.config import Config
from sealane.hdl.abi.meta import META, Reason
from sealane.hdl.abi.registers import COUNTERS, IDENT_VALUE, OFFSET
from sealane.hdl.abi.tx import TX_META, TX_STATUS, TxOp, TxReason
from sealane.sim.errors import BuildError
from sealane.sim.transport import RtlTransport
from tests.support.tx_stream import TxStream

CONFIG = Config()


def pass_through(frames, **options):
    """Completions and final statistics of frames that nobody knows."""
    with RtlTransport(CONFIG, **options) as device:
        for frame in frames:
            device.post(frame)
        out = device.poll()
        assert device.read(OFFSET["COUNT_FRAMES"]) == len(frames)
        assert device.read(OFFSET["COUNT_MARKED"]) == 0
        return out, device.stats()


def test_registers_answer_and_time_stands_still_between_calls():
    with RtlTransport(CONFIG) as device:
        assert device.read(OFFSET["IDENT"]) == IDENT_VALUE
        assert device.read(OFFSET["FLOWS"]) == CONFIG.flows
        device.write(OFFSET["CMD_SEQ"], 0x12345678)
        assert device.read(OFFSET["CMD_SEQ"]) == 0x12345678
        assert not device.try_write(OFFSET["IDENT"], 0)
        assert not device.irq
        before = device.stats()["cycles"]
        assert device.poll() == []
        assert device.stats()["cycles"] == before
        device.run(10)
        assert device.stats()["cycles"] == before + 10
        for name, _ in COUNTERS:
            assert device.read(OFFSET["COUNT_" + name.upper()]) == 0


def test_every_length_around_word_bounds_passes():
    rng = random.Random(1)
    frames = [rng.randbytes(length) for length in range(1, 140)]
    out, _ = pass_through(frames)
    expected = META.pack({"reason": Reason.NOT_TCP})
    assert out == [Completion(frame, expected) for frame in frames]


@pytest.mark.parametrize(("idle", "stall"), [(0, 0), (0.5, 0), (0, 0.5), (0.3, 0.3), (0, 0.95)])
def test_random_frames_pass_with_bubbles_and_backpressure(idle, stall):
    rng = random.Random(f"{idle} {stall}")
    lengths = (1, 16, 17, 60, 64, 1514, CONFIG.max_frame, CONFIG.max_frame + 1, 15000, 40000)
    frames = [rng.randbytes(rng.choice(lengths)) for _ in range(80)]
    out, stats = pass_through(frames, seed=7, idle=idle, stall=stall)
    assert [completion.frame for completion in out] == frames
    for frame, completion in zip(frames, out, strict=True):
        oversize = len(frame) > CONFIG.max_frame
        expected = Reason.OVERSIZE if oversize else Reason.NOT_TCP
        assert META.unpack(completion.meta)["reason"] == expected
    if not stall:
        assert stats["stall_cycles"] == 0
    if not idle and not stall:
        # Words in and out without a gap, but for store and forward of the last frame.
        clocks = stats["last_out"] - stats["first_in"]
        assert clocks < stats["words_in"] + CONFIG.max_frame // 16 + 200


def test_what_has_come_out_is_given_once_and_in_order():
    rng = random.Random(3)
    frames = [rng.randbytes(rng.randrange(1, 3000)) for _ in range(60)]
    out = []
    with RtlTransport(CONFIG) as device:
        for frame in frames:
            device.post(frame)
            device.run(rng.randrange(200))
            out += device.poll(wait=False)
        out += device.poll()
        assert device.poll() == []
    assert [completion.frame for completion in out] == frames


def test_a_device_that_stands_still_is_an_error_and_empty_frames_are_refused():
    with RtlTransport(CONFIG, bound=50, stall=1) as device:
        with pytest.raises(ValueError):
            device.post(b"")
        device.post(bytes(60))
        with pytest.raises(TimeoutError, match="1 of 1 frames"):
            device.poll()


def test_waves(tmp_path, monkeypatch):
    # It runs for a few hundred clocks: what counts is how long it is built.
    monkeypatch.setenv("SEALANE_SIM_OPTIMIZE", "-O0")
    file = tmp_path / "waves.fst"
    try:
        device = RtlTransport(CONFIG, waves=file)
    except BuildError as error:
        assert "install" in str(error)
        pytest.skip(str(error))
    device.post(bytes(100))
    assert len(device.poll()) == 1
    device.close()
    assert file.stat().st_size > 1000
    with pytest.raises(OSError):
        RtlTransport(CONFIG, waves=tmp_path / "no" / "waves.fst")


def test_a_device_without_transmit_takes_no_frames_of_the_host():
    with RtlTransport(CONFIG) as device:
        with pytest.raises(ValueError, match="no transmit"):
            device.post_tx(bytes(60), 0)
        assert device.poll_tx() == TxOutput([], [])


@pytest.mark.parametrize(("idle", "stall"), [(0, 0), (0.5, 0), (0, 0.5), (0.3, 0.3), (0, 0.95)])
def test_frames_of_the_host_that_need_nothing_leave_as_they_are(idle, stall):
    rng = random.Random(f"{idle} {stall}")
    lengths = (*range(1, 40), 60, 64, 1514, TX_SMALL.max_frame, TX_SMALL.max_frame + 1, 15000)
    expected = []
    with RtlTransport(TX_SMALL, seed=7, idle=idle, stall=stall) as device:
        with pytest.raises(ValueError, match="at least one byte"):
            device.post_tx(b"", 0)
        for cookie in range(200):
            frame, op = rng.randbytes(rng.choice(lengths)), rng.choice((TxOp.NOTHING, TxOp.WIRE))
            device.post_tx(frame, TX_META.pack({"op": op, "cookie": cookie}))
            reason = TxReason.OVERSIZE if len(frame) > TX_SMALL.max_frame else TxReason.NONE
            status = TX_STATUS.pack({"op": op, "cookie": cookie, "reason": reason})
            expected.append((None if reason else frame, [], status))
            device.post(rng.randbytes(60))
        output = device.poll_tx()
        assert together(output) == expected
        assert len(device.poll()) == 200
        stats = device.stats()
        assert stats["tx_frames_out"] == len(output.frames)
        assert stats["tx_completions"] == stats["tx_frames_in"] == stats["tx_frames_posted"] == 200
        assert device.poll_tx() == TxOutput([], [])


def test_what_transmit_has_given_out_is_given_once_and_in_order():
    rng = random.Random(3)
    frames = [rng.randbytes(rng.randrange(1, 2000)) for _ in range(60)]
    left, words = [], []
    with RtlTransport(TX_SMALL, seed=1, stall=0.2) as device:
        for cookie, frame in enumerate(frames):
            device.post_tx(frame, TX_META.pack({"op": TxOp.WIRE, "cookie": cookie}))
            device.run(rng.randrange(200))
            output = device.poll_tx(wait=False)
            left, words = left + output.frames, words + output.completions
        output = device.poll_tx()
        assert left + output.frames == frames
        cookies = [TX_STATUS.unpack(word)["cookie"] for _, word in words + output.completions]
        assert cookies == list(range(60))


@pytest.mark.parametrize("held", [("m_axis", "m_meta"), ("m_tx_axis",), ("m_tx_comp",)])
def test_a_host_that_takes_nothing_holds_up_its_own_direction_only(held):
    rng = random.Random(5)
    with RtlTransport(TX_SMALL) as transport:
        way = TrafficFlow(rng, Device(transport, TX_SMALL), 0, forge=0, loss=0)
        # So small that more verdicts wait than there is room for, and the cipher fills up.
        way.todo = [(at, at + 40) for at in range(0, 8000, 40)]
        stream = TxStream(transport, context=1)
        stream.random_records(40)
        transport.hold(*held)
        arriving, leaving, at = [], [], 0
        while at < stream.end and way.todo:
            arriving.append(way.frame(0))
            end = min(stream.end, at + 40)
            leaving.append(stream.frame(at, stream.wire(at, end)))
            frame, meta = stream.host_frame(at, stream.plain(at, end)), stream.meta()
            transport.post(arriving[-1])
            transport.post_tx(frame, TX_META.pack(meta))
            at = end
        transport.run(20_000)
        received, sent = transport.poll(wait=False), transport.poll_tx(wait=False)
        if held[0] == "m_axis":
            # A key is taken while spans of receive are stuck.
            stream.rekey(1)
            assert not received and sent.frames == leaving
            assert len(sent.completions) == len(leaving)
        else:
            assert len(received) == len(arriving)
            assert sent.frames == [] or held == ("m_tx_comp",)
            assert len(sent.completions) < len(leaving)
        transport.hold()
        output = transport.poll_tx()
        assert sent.frames + output.frames == leaving
        assert len(received + transport.poll()) == len(arriving)
