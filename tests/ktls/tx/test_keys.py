# SPDX-License-Identifier: Apache-2.0
"""The transmit core: consecutive keys."""

from __future__ import annotations

from sealane.driver.ktls.tx.plan import Way
from sealane.driver.ktls.tx.records import TxEpoch
from sealane.driver.ktls.tx.rekey import ClearKey, InstallKey, RekeyMode
from sealane.hdl.abi.config import VERSION_TLS12, VERSION_TLS13
from tests.support.ktls_tx_host import MARKER, NUMBER, Host, metas, payload
from tests.support.marking_device import info


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
    assert host.tx.acked((MARKER + first.end) % 2**32) == []  # it is in flight
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
    assert (plan.way, payload(plan.frames[0])) == (
        Way.SOFTWARE,
        host.wire[second.start : second.start + 700],
    )
    assert host.sent(0, 100).way is Way.SEEK
    assert host.tx.acked((MARKER + first.end - 1) % 2**32) == []
    (install,) = host.tx.acked((MARKER + first.end) % 2**32)
    assert (install.key_slot, install.epoch.base, install.epoch.info) == (1, NUMBER + 1, keys)
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
    assert (plan.way, payload(plan.frames[0])) == (Way.SOFTWARE, host.wire[second.start :])
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
    assert (plan.way, payload(plan.frames[0])) == (Way.SOFTWARE, host.wire[second.start :])
    assert host.tx.stat.TlsTxRekeyError == 0
