# SPDX-License-Identifier: Apache-2.0
"""The simulated device's ports: frames that are nobody's pass as they are, registers answer."""

import random

import pytest
from sealane.driver.transport import Completion
from sealane.hdl.abi.config import Config
from sealane.hdl.abi.meta import META, Reason
from sealane.hdl.abi.registers import COUNTERS, IDENT_VALUE, OFFSET
from sealane.sim.errors import BuildError
from sealane.sim.transport import RtlTransport

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


def test_waves(tmp_path):
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
