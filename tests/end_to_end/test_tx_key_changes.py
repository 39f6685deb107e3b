# SPDX-License-Identifier: Apache-2.0
"""Key changes of a transmit direction end to end: kTLS, driver and device, both modes.

Frames sent are compared with those of a software TLS sender (`TxEndToEnd.check`).
"""

from __future__ import annotations

import pytest

from sealane.driver.ktls.tx.plan import TxMode, Way
from sealane.driver.ktls.tx.rekey import RekeyMode
from sealane.driver.model.device import ModelTransport
from sealane.hdl.abi.tx import TxOp
from tests.support.tx_end_to_end import Sent, TxEndToEnd


@pytest.fixture
def transports():
    return ModelTransport


def write(w: TxEndToEnd, salt: int = 0, count: int = 3) -> int:
    """Writes some records and returns where they begin."""
    start = w.end
    for i in range(count):
        w.write(bytes(89 * j + salt + i & 255 for j in range(300 * i + 40)))
    return start


def send(w: TxEndToEnd, start: int, end: int | None = None, size: int = 350) -> list[Sent]:
    end = w.end if end is None else end
    return [w.send(low, min(low + size, end)) for low in range(start, end, size)]


def ways(sent: list[Sent]) -> set[Way | None]:
    assert all(one.left for one in sent)
    return {one.way for one in sent}


@pytest.mark.parametrize("bits", [128, 256])
def test_epochs_the_device_does_not_pause(transports, bits):
    """Includes segments with records of both keys, and retransmissions under the old key."""
    w = TxEndToEnd(transports, bits=bits)
    write(w)
    done = 0
    for epoch in range(1, 5):
        middle = w.end
        w.rekey()
        write(w, epoch)
        assert ways(send(w, done)) == {Way.IN_ORDER}
        assert ways(send(w, middle - 100)) <= {Way.SEEK, Way.TAG}
        done = w.end
        w.ack(middle)
        assert w.ktls.stat.TlsTxRekeyOk == epoch
    assert w.ktls.stat.TlsTxRekeyError == 0


def test_epochs_a_segment_with_records_of_both_keys_goes_in_order(transports):
    w = TxEndToEnd(transports)
    write(w)
    middle = w.end
    w.rekey()
    write(w, 1)
    assert ways(send(w, 0, middle - 100)) == {Way.IN_ORDER}
    sent = w.send(middle - 100, middle + 100)
    assert sent.way is Way.IN_ORDER and sent.operations == [TxOp.ENCRYPT]
    assert ways(send(w, middle + 100)) == {Way.IN_ORDER}
    assert w.send(middle - 100, middle + 100).way is Way.TAG
    assert w.send(middle - 90, middle - 20).way is Way.SEEK


def test_epochs_a_third_key_takes_the_slot_of_the_first(transports):
    """Three epochs are unacknowledged: software handles the records of the first one."""
    w = TxEndToEnd(transports)
    write(w)
    first = w.end
    for epoch in (1, 2):
        start = w.end
        w.rekey()
        write(w, epoch)
    assert ways(send(w, 0, start)) == {Way.IN_ORDER}
    third = send(w, start)
    assert ways(third) == {Way.IN_ORDER}
    assert w.send(100, 200).way is Way.SOFTWARE
    assert w.send(first - 20, first).way is Way.SOFTWARE
    assert ways(send(w, first)) <= {Way.SEEK, Way.TAG}
    assert w.ktls.stat.TlsTxRekeyOk == 2


def test_gap_software_until_everything_old_is_acknowledged(transports):
    w = TxEndToEnd(transports, rekey_mode=RekeyMode.GAP)
    write(w)
    middle = w.end
    assert ways(send(w, 0)) == {Way.IN_ORDER}
    w.rekey()
    write(w, 1)
    assert ways(send(w, middle, middle + 200)) == {Way.SOFTWARE}
    assert w.send(100, 200).way is Way.SEEK  # the device still handles old records
    w.ack(middle - 1)
    assert ways(send(w, middle + 200, middle + 300)) == {Way.SOFTWARE}
    assert w.ktls.stat.TlsTxRekeyOk == 0
    w.ack(middle)
    assert w.ktls.stat.TlsTxRekeyOk == 1
    boundary = w.ktls.eor
    assert boundary is not None and boundary > middle
    assert ways(send(w, middle + 300, boundary)) == {Way.SOFTWARE}
    assert ways(send(w, boundary)) == {Way.IN_ORDER}
    assert ways(send(w, middle, boundary)) <= {Way.SEEK, Way.TAG}


def test_gap_of_two_keys_only_the_latest_is_installed(transports):
    w = TxEndToEnd(transports, rekey_mode=RekeyMode.GAP)
    write(w)
    send(w, 0)
    for epoch in (1, 2):
        start = w.end
        w.rekey()
        write(w, epoch)
        assert ways(send(w, start)) == {Way.SOFTWARE}
    w.ack(start)
    assert w.ktls.stat.TlsTxRekeyOk == 1
    late = write(w, 3)
    assert ways(send(w, late)) == {Way.IN_ORDER}


@pytest.mark.parametrize("mode", RekeyMode)
def test_a_key_that_cannot_be_installed_stays_in_software(transports, mode):
    w = TxEndToEnd(transports, rekey_mode=mode)
    write(w)
    send(w, 0)
    middle = w.end
    w.refuse_keys = True
    w.rekey()
    write(w, 1)
    assert ways(send(w, middle)) == {Way.SOFTWARE}
    w.ack(middle)
    late = write(w, 2)
    assert ways(send(w, late)) == {Way.SOFTWARE}
    assert (w.ktls.stat.TlsTxRekeyOk, w.ktls.stat.TlsTxRekeyError) == (0, 1)


def test_rebuild_across_a_key_change(transports):
    w = TxEndToEnd(transports, mode=TxMode.REBUILD)
    write(w)
    middle = w.end
    w.rekey()
    write(w, 1)
    send(w, 0)
    for low in range(middle - 300, middle + 60, 23):
        sent = w.send(low, min(low + 400, w.end))
        assert sent.left and sent.way is Way.REBUILD, low
