# SPDX-License-Identifier: Apache-2.0
"""Keys of a transmit direction that are in the device, in both rekey modes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sealane.driver.ktls.tx.rekey import ClearKey, InstallKey, RekeyMode, TxRekey
from sealane.hdl.abi.config import VERSION_TLS12, VERSION_TLS13
from tests.support.marking_device import info

IDLE: frozenset[int] = frozenset()


def keys_in(mode):
    return TxRekey(info(VERSION_TLS13), mode=mode)


def change(keys, base, start):
    """The next epoch, whose first record is N = `base` at offset `start`."""
    return keys.rekey(info(VERSION_TLS13, keys.latest.number + 1), base, start)


def the_install(actions, slot, epoch):
    (install,) = actions
    assert isinstance(install, InstallKey)
    assert (install.key_slot, install.epoch.number) == (slot, epoch)
    return install


# --- key epochs -----------------------------------------------------------------------------


def two_epochs():
    """Epoch 0 in slot 0, and epoch 1, from offset 1000 on, in slot 1."""
    keys = keys_in(RekeyMode.EPOCHS)
    change(keys, 7, 1000)
    keys.progress(0, 0, IDLE)
    keys.installed(True)
    return keys


def test_epochs_a_new_key_goes_into_the_free_slot_at_once():
    keys = keys_in(RekeyMode.EPOCHS)
    assert (keys.usable, keys.slots, keys.progress(0, 0, IDLE)) == ({0}, {0: 0}, [])
    assert change(keys, 7, 1000)
    # The other slot is free, whatever is in flight. Frames sent may still be lost.
    install = the_install(keys.progress(0, 400, {0}), 1, 1)
    assert (install.epoch.base, install.epoch.start) == (7, 1000)
    assert install.epoch.info == info(VERSION_TLS13, 1)
    assert keys.usable == {0}
    assert keys.progress(0, 400, IDLE) == []  # one at a time
    assert keys.installed(True) == []
    assert (keys.usable, keys.slots) == ({0, 1}, {0: 0, 1: 1})


def test_epochs_the_old_slot_is_cleared_when_its_last_record_is_acknowledged():
    keys = two_epochs()
    assert keys.progress(999, 1500, IDLE) == []
    # A last retransmission is in flight. No other is begun, and the key stays until it is done.
    assert keys.progress(1000, 1500, {0}) == []
    assert (keys.usable, keys.slots) == ({1}, {0: 0, 1: 1})
    assert keys.progress(1000, 1500, {1}) == [ClearKey(0)]
    assert (keys.usable, keys.slots) == ({1}, {1: 1})
    assert list(keys.epochs) == [1]
    change(keys, 9, 2000)
    the_install(keys.progress(1000, 1500, {1}), 0, 2)


def test_epochs_a_third_key_takes_the_oldest_slot_once_the_stream_has_passed_it():
    keys = two_epochs()
    change(keys, 9, 2000)
    assert keys.progress(0, 999, IDLE) == []
    assert keys.usable == {0, 1}
    # From here on the oldest is not used any more, but frames that need it are in flight.
    assert keys.progress(0, 1000, {0, 1}) == []
    assert keys.usable == {1}
    the_install(keys.progress(0, 1000, {1}), 0, 2)
    keys.installed(True)
    assert (keys.usable, keys.slots) == ({1, 2}, {0: 2, 1: 1})
    assert 0 in keys.epochs  # software retransmits its records
    assert keys.progress(1000, 1000, IDLE) == []
    assert list(keys.epochs) == [1, 2]
    # The fourth finds the slot of the second.
    change(keys, 11, 3000)
    the_install(keys.progress(1000, 2000, {2}), 1, 3)


def test_epochs_a_third_key_waits_for_acknowledgements_where_the_stream_does_not_pass():
    keys = two_epochs()
    change(keys, 9, 2000)
    change(keys, 11, 3000)
    assert keys.waiting == (2, 3)
    assert keys.progress(500, 500, IDLE) == []
    clear, *rest = keys.progress(1000, 500, IDLE)
    assert clear == ClearKey(0)
    the_install(rest, 0, 2)
    keys.installed(True)
    # Fully acknowledged: the slots are free, and the latest key takes one.
    clear, *rest = keys.progress(2500, 500, IDLE)
    assert clear == ClearKey(1)
    the_install(rest, 1, 3)


def test_epochs_a_key_whose_records_are_acknowledged_is_not_installed_any_more():
    keys = two_epochs()
    change(keys, 9, 2000)
    change(keys, 11, 3000)
    *clears, install = keys.progress(3000, 500, IDLE)
    assert clears == [ClearKey(0), ClearKey(1)]
    assert (install.epoch.number, keys.waiting) == (3, ())
    assert sorted(keys.epochs) == [3]


# --- gap ------------------------------------------------------------------------------------


def test_gap_the_new_key_is_installed_when_all_old_records_are_acknowledged():
    keys = keys_in(RekeyMode.GAP)
    assert change(keys, 7, 1000)
    assert keys.progress(999, 1000, IDLE) == []
    assert keys.progress(1000, 1000, {0}) == []
    assert keys.usable == {0}
    install = the_install(keys.progress(1000, 1000, IDLE), 1, 1)
    assert install.epoch.base == 7
    assert keys.installed(True) == [ClearKey(0)]
    assert (keys.usable, keys.slots) == ({1}, {1: 1})
    change(keys, 9, 2000)
    the_install(keys.progress(2000, 1500, IDLE), 0, 2)
    assert keys.installed(True) == [ClearKey(1)]


def test_gap_of_several_keys_only_the_latest_is_installed():
    keys = keys_in(RekeyMode.GAP)
    change(keys, 7, 1000)
    change(keys, 9, 2000)
    assert keys.progress(1500, 1000, IDLE) == []
    assert keys.waiting == (2,)
    assert keys.epochs[1].info == info(VERSION_TLS13, 1)  # software needs it
    install = the_install(keys.progress(2000, 1000, IDLE), 1, 2)
    assert install.epoch.base == 9
    assert keys.installed(True) == [ClearKey(0)]
    assert keys.usable == {2}


def test_gap_a_key_that_comes_while_one_is_installed_waits():
    keys = keys_in(RekeyMode.GAP)
    change(keys, 7, 1000)
    keys.progress(1000, 1000, IDLE)
    change(keys, 9, 2000)
    assert keys.progress(2000, 1000, IDLE) == []
    assert keys.installed(True) == [ClearKey(0)]
    the_install(keys.progress(2000, 1000, IDLE), 0, 2)


# --- faults ---------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", list(RekeyMode))
def test_a_key_that_cannot_be_installed_stays_softwares_and_no_other_is_tried(mode):
    keys = keys_in(mode)
    change(keys, 7, 0)
    install = keys.progress(0, 0, IDLE)[-1]
    assert keys.installed(False) == [ClearKey(install.key_slot)]
    assert keys.failed
    assert 1 not in keys.usable
    assert not change(keys, 9, 2000)
    cleared = [ClearKey(0)] if mode is RekeyMode.GAP else []  # the other has cleared it before
    assert keys.progress(5000, 5000, IDLE) == cleared
    assert keys.slots == {}
    assert keys.epochs[2].base == 9
    with pytest.raises(ValueError, match="no key"):
        keys.installed(True)


def test_a_key_whose_slot_was_taken_does_not_stay_when_the_new_one_cannot_be_installed():
    keys = keys_in(RekeyMode.EPOCHS)
    change(keys, 7, 1000)
    the_install(keys.progress(0, 0, IDLE), 1, 1)
    keys.installed(True)
    change(keys, 9, 2000)
    the_install(keys.progress(0, 1000, IDLE), 0, 2)  # nothing under the first is acknowledged
    assert keys.installed(False) == [ClearKey(0)]
    assert (keys.usable, keys.slots) == ({1}, {1: 1})


@pytest.mark.parametrize("mode", list(RekeyMode))
def test_when_the_device_lets_go_nothing_is_installed(mode):
    keys = keys_in(mode)
    change(keys, 7, 0)
    keys.stop()
    assert keys.progress(0, 0, IDLE) == []
    assert keys.usable == frozenset()
    assert not change(keys, 9, 10)


def test_tls12_has_no_key_update():
    keys = TxRekey(info(VERSION_TLS12))
    assert not keys.rekey(info(VERSION_TLS12, 1), 7, 1000)
    assert keys.progress(999, 1000, IDLE) == []
    assert keys.usable == {0}
    assert keys.progress(1000, 1000, {0}) == []
    assert keys.progress(1000, 1000, IDLE) == [ClearKey(0)]
    with pytest.raises(ValueError, match="version"):
        keys.rekey(info(VERSION_TLS13, 2), 8, 1100)


# --- at random ------------------------------------------------------------------------------


class Slots:
    """The device: two slots, and the key that it would take for a record."""

    def __init__(self):
        self.keys = {0: (0, 0)}  # slot -> base, epoch
        self.newer = 0

    def do(self, action):
        if isinstance(action, ClearKey):
            del self.keys[action.key_slot]
        else:
            self.keys[action.key_slot] = action.epoch.base, action.epoch.number
            self.newer = action.key_slot

    def epoch(self, number):
        for slot in (self.newer, 1 - self.newer):
            limit = self.keys.get(self.newer, (None,))[0]
            if (
                slot in self.keys
                and number >= self.keys[slot][0]
                and (slot == self.newer or limit is None or number < limit)
            ):
                return self.keys[slot][1]
        return None


_STEP = st.one_of(
    st.tuples(st.just("rekey"), st.integers(1, 5)),
    st.tuples(st.just("ack"), st.integers(0, 40)),
    st.tuples(st.just("send"), st.integers(0, 40)),
    st.tuples(st.just("post"), st.integers(0, 5)),
    st.tuples(st.just("complete"), st.just(0)),
)


@settings(max_examples=300)
@given(mode=st.sampled_from(list(RekeyMode)), steps=st.lists(_STEP, max_size=60))
def test_the_device_has_the_right_key_for_every_record_that_it_may_be_given(mode, steps):
    """Records of 10 bytes, several under each key. No slot that a posted frame needs is touched."""
    keys, device = keys_in(mode), Slots()
    epochs, una, expected = [0] * 3, 0, 0  # of each record by N
    busy: set[int] = set()
    for step, value in steps:
        if step == "rekey":
            change(keys, len(epochs), 10 * len(epochs))
            epochs += [keys.latest.number] * value
        elif step == "ack":
            una = max(una, min(10 * len(epochs), una + value))
        elif step == "send":
            passed = epochs[expected // 10 : (expected + value) // 10 + 1]
            if all(epoch in keys.usable for epoch in passed):
                expected = min(10 * len(epochs), expected + value)
        elif step == "post":
            busy |= set(sorted(keys.usable)[:value])
        else:
            busy.clear()
        actions = keys.progress(una, expected, busy)
        while actions:
            action = actions.pop(0)
            held = device.keys.get(action.key_slot)
            assert held is None or held[1] not in busy
            assert isinstance(action, InstallKey) or held is not None
            device.do(action)
            if isinstance(action, InstallKey):
                actions += keys.installed(True)
        for number, epoch in enumerate(epochs):
            if epoch in keys.usable:
                assert device.epoch(number) == epoch
            if 10 * number + 10 > una:
                assert epoch in keys.epochs  # software can always seal it
        assert {slot: epoch for slot, (_, epoch) in device.keys.items()} == keys.slots
    # With nothing in flight and everything acknowledged the latest key is the device's.
    for _ in range(3):
        for action in keys.progress(10 * len(epochs), expected, IDLE):
            device.do(action)
            if isinstance(action, InstallKey):
                for more in keys.installed(True):
                    device.do(more)
    assert keys.usable == {keys.latest.number}
