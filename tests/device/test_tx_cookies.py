# SPDX-License-Identifier: Apache-2.0
"""Whose completion it is: cookies that come round, and frames that belong to no context.

A completion that reaches the wrong frame's record, or the wrong connection, takes the stored tag
away from a record or gives it another's: then two tags may leave under one nonce. Keys protect
nothing.
"""

from __future__ import annotations

import pytest

from sealane.driver.device.tx import TxDevice
from sealane.driver.ktls.tx.frames import COOKIES, UNUSED_CONTEXT
from sealane.driver.ktls.tx.offload import KtlsTx
from sealane.driver.ktls.tx.plan import Hold, Plan, TxMode, Way
from sealane.driver.model.device import ModelTransport
from sealane.hdl.abi.tx import TX_META
from tests.support.tcp_frames import ACK, Peer, Segment, Wire, left_to_the_card
from tests.support.tx_end_to_end import CONFIG, TxEndToEnd

TEXT = bytes(range(256)) * 4


def world(**kwargs) -> tuple[TxEndToEnd, bytearray, int]:
    """A connection, text that its caller may change, and the end of that record."""
    made, text = TxEndToEnd(ModelTransport, **kwargs), bytearray(TEXT)
    made.strict = False  # text is changed; second tags are found all the same
    end = made.write(text, frozen=False).end
    made.write(TEXT)
    return made, text, end


def planned(w: TxEndToEnd, start: int, end: int, device: object = None) -> Plan:
    plan = w.ktls.transmit(w.host_frame(start, end), True, device)
    assert isinstance(plan, Plan)
    return plan


def only_one_tag(w: TxEndToEnd, text: bytearray, start: int, end: int) -> None:
    """The record's tag is known, so that with other text nothing leaves."""
    record = next(iter(w.ktls.records))
    assert record.tag is not None and record.outstanding == 0
    text[20] ^= 1
    w.change(5 + 20)
    for mode in (TxMode.AUTO, TxMode.REBUILD, TxMode.SOFTWARE):
        w.ktls.mode = mode
        w.send(start, end)  # `TxEndToEnd.check` would see a second tag


def cookies(plan: Plan) -> list[int]:
    return [TX_META.unpack(post.meta)["cookie"] for post in plan.frames]


def test_plans_that_are_taken_back_use_no_cookies_up():
    w, text, end = world()
    w.device.post(planned(w, 0, 100).frames)
    taken = cookies(planned(w, 100, end))
    w.ktls._latest.undo()
    for _ in range(3):
        plan = planned(w, 100, end)
        assert cookies(plan) == taken
        plan.undo()
    w.device.post(planned(w, 100, end).frames)
    w.poll()
    only_one_tag(w, text, 100, end)


def test_frames_of_another_device_use_no_cookies_up():
    w, text, end = world()
    w.device.post(planned(w, 0, 100).frames)
    before = w.ktls._cookie
    for _ in range(3):
        assert cookies(planned(w, 0, 50, object())) == [0]
    assert w.ktls._cookie == before
    w.device.post(planned(w, 100, end).frames)
    w.poll()
    only_one_tag(w, text, 100, end)


def test_cookies_that_come_round_leave_what_is_in_flight_alone():
    w, text, end = world()
    w.device.post(planned(w, 0, end).frames)
    w.ktls._cookie = COOKIES - 1  # as far on as if as many frames had left
    plans = [planned(w, end, end + 10), planned(w, end + 10, end + 20)]
    assert [cookies(plan) for plan in plans] == [[COOKIES], [2]]
    assert sorted(w.ktls._in_flight) == [1, 2, COOKIES]
    for plan in plans:
        w.device.post(plan.frames)
    w.poll()
    assert not w.ktls._in_flight
    only_one_tag(w, text, 0, end)


def test_so_many_frames_in_flight_that_no_more_can_be_told_apart():
    w, _, end = world(posts=COOKIES - 1)
    w.device.post(planned(w, 0, 100).frames)
    w.device.post(planned(w, 100, 200).frames)
    assert w.ktls.transmit(w.host_frame(200, end)) == Hold(())
    assert w.ktls.counters.tag_wait == 1
    w.poll()
    assert w.send(200, end).way is Way.IN_ORDER
    for queue in (0, COOKIES + 1):
        with pytest.raises(ValueError, match="queue"):
            TxDevice(w.transport, CONFIG, queue=queue)


def other_connection(w: TxEndToEnd) -> tuple[KtlsTx, bytes]:
    """One for which the device had no context, and its first segment."""
    tx = KtlsTx(w.stream.keys(0), 777, None, device=w.device)
    plain = tx.push(23, TEXT)
    path = Wire(client=Peer("10.9.0.7", 41000, 776))
    return tx, left_to_the_card(Segment("c2s", 0, plain[:200], ACK).frame(path))


def test_completions_of_a_connection_without_a_context_are_nobodys():
    w, text, end = world()
    assert (w.handle.context, w.handle.generation) == (0, 0)
    owners = {(w.handle.context, w.handle.generation): w.ktls}
    software, frame = other_connection(w)
    plan = software.transmit(frame)
    assert isinstance(plan, Plan)
    w.device.post(plan.frames)
    w.device.post(planned(w, 0, end).frames)
    first, second = w.device.poll().completions
    assert (first.context, first.generation, first.cookie) == (UNUSED_CONTEXT, 0, 0)
    for completion in (first, second):
        owner = owners.get((completion.context, completion.generation))
        assert (owner is not None) == (completion is second)
        if owner is not None:
            owner.completed(completion)
    only_one_tag(w, text, 0, end)


def test_a_connection_that_goes_on_in_software_does_not_name_the_next_owner():
    w, _, end = world()
    w.delete()
    w.device.release(w.handle)
    sent = w.send(0, end)
    assert sent.way is Way.SOFTWARE
    assert [(c.context, c.cookie) for c in sent.completions] == [(UNUSED_CONTEXT, 0)]
    for _ in range(256):  # until the low bits of the generation are the same again
        handle = w.device.add(w.flow, w.stream.keys(0), 1)
        w.device.delete(handle)
        w.device.release(handle)
    assert handle.generation & 0xFF == w.handle.generation & 0xFF
    (completion,) = w.send(100, 200).completions
    assert completion.context == UNUSED_CONTEXT


def test_a_completion_names_the_generation_that_the_frame_was_made_for():
    """Also when the device has taken 256 others since, and looked at none of the completions."""
    w, text, end = world()
    w.device.post(planned(w, 0, end).frames)
    w.device.delete(w.handle)
    w.device.release(w.handle)
    for _ in range(256):
        handle = w.device.add(w.flow, w.stream.keys(0), 1)
        w.device.delete(handle)
        w.device.release(handle)
    (completion,) = w.device.poll().completions
    assert (completion.context, completion.generation) == (0, w.handle.generation) == (0, 0)
    w.ktls.completed(completion)
    assert next(iter(w.ktls.records)).tag is not None
