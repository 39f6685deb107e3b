# SPDX-License-Identifier: Apache-2.0
"""Which keys of a transmit direction are in the device, as a state machine without side effects.

The device has two key slots a flow; a slot's key is for the records from its `base` on. Two modes:

- EPOCHS: a new key goes into the free slot at once and both are used, so that the device never
  pauses. The slot of an old key becomes free when its last record is acknowledged. If a third key
  comes before that, the older slot is taken as soon as all records under that key were handed
  over and their frames are completed; they are retransmitted by software from then on.
- GAP, as Linux rekeys: records under the new key are software's until every record under the old
  one is acknowledged, then the new key goes into the device. If another key comes in between, only
  the latest one does.

TLS 1.2 has no key update (RFC 8446 section 4.6.3 is TLS 1.3's): there the direction is software's
from the first change of keys on.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from sealane.hdl.abi.config import VERSION_TLS13

from ...crypto.keys import CryptoInfo
from .records import TxEpoch

KEY_SLOTS: Final = (0, 1)


class RekeyMode(StrEnum):
    """How the device gets a new key."""

    EPOCHS = "epochs"
    GAP = "gap"


@dataclass(frozen=True)
class InstallKey:
    """To be done now: the device takes `epoch`'s key into `key_slot`, for the records from its `base`
    on; then `installed` is to be told."""

    key_slot: int
    epoch: TxEpoch


@dataclass(frozen=True)
class ClearKey:
    """To be done now: the device empties `key_slot`."""

    key_slot: int


KeyAction = InstallKey | ClearKey


class TxRekey:
    """Keys of one direction. epoch 0 is what the device was given at first, in slot 0.

    Actions are given out once the frames that need the slot's key are completed, in the order in
    which they are to be done, and at most one `InstallKey` is under way. failed: a key could not
    be installed; no other is tried, and the keys that are in the device go when their last records
    are acknowledged. All positions are stream offsets.
    """

    def __init__(self, info: CryptoInfo, base: int = 0, mode: RekeyMode = RekeyMode.EPOCHS) -> None:
        self.mode = mode
        self.failed = False
        self.epochs: dict[int, TxEpoch] = {0: TxEpoch(0, info, base)}
        self._slots: list[int | None] = [0, None]
        self._usable = {0}
        self._waiting: list[int] = []
        self._installing: InstallKey | None = None

    @property
    def latest(self) -> TxEpoch:
        """The keys for the next record."""
        return self.epochs[max(self.epochs)]

    @property
    def usable(self) -> frozenset[int]:
        """Epochs whose records the device may be given."""
        return frozenset(self._usable)

    @property
    def slots(self) -> Mapping[int, int]:
        """Epochs that are in the device, by slot."""
        return {key_slot: held for key_slot, held in enumerate(self._slots) if held is not None}

    @property
    def waiting(self) -> tuple[int, ...]:
        """Epochs that are not in the device and shall be."""
        return tuple(self._waiting)

    def rekey(self, info: CryptoInfo, base: int, start: int) -> bool:
        """Keys for the records from N = `base` on, whose first one begins at `start`; whether the
        device is to get them at all. Raises `ValueError` if the version changes."""
        if info.version != self.latest.info.version:
            raise ValueError("keys of another TLS version")
        epoch = TxEpoch(self.latest.number + 1, info, base, start)
        self.epochs[epoch.number] = epoch
        if info.version != VERSION_TLS13:
            self.failed = True
        if self.failed:
            return False
        if self.mode is RekeyMode.GAP:
            self._waiting.clear()
        self._waiting.append(epoch.number)
        return True

    def progress(self, una: int, high: int, busy: Container[int]) -> list[KeyAction]:
        """What is to be done now.

        una: everything before it is acknowledged. high: end of what was handed over; the records
        under a key that are all in front of it are only sent again, by software if need be. busy:
        epochs of frames that are posted and not completed.
        """
        actions: list[KeyAction] = []
        if self._installing is None and self.failed:
            self._free_acknowledged(una, busy, actions)
        elif self._installing is None and self.mode is RekeyMode.GAP:
            self._gap(una, busy, actions)
        elif self._installing is None:
            self._free_acknowledged(una, busy, actions)
            self._next_epoch(una, high, busy, actions)
        for number in [number for number in self.epochs if self._over(number, una)]:
            if number not in self._slots and number not in busy:
                del self.epochs[number]
        return actions

    def installed(self, ok: bool) -> list[KeyAction]:
        """The `InstallKey` under way was done, or could not be; what is to be done then.

        Raises `ValueError` if none was under way.
        """
        install, self._installing = self._installing, None
        if install is None:
            raise ValueError("no key is being installed")
        if not ok:
            self.failed = True
            self._waiting.clear()
            return [ClearKey(install.key_slot)]  # the key that was to be replaced is there still
        self._slots[install.key_slot] = install.epoch.number
        self._usable.add(install.epoch.number)
        if self.mode is RekeyMode.EPOCHS:
            return []
        self._usable = {install.epoch.number}
        old = 1 - install.key_slot
        self._slots[old] = None
        return [ClearKey(old)]

    def stop(self) -> None:
        """The device has let go of the direction: no key is installed any more."""
        self.failed, self._installing = True, None
        self._slots = [None, None]
        self._usable.clear()
        self._waiting.clear()

    def _end(self, number: int) -> int | None:
        """Where the records under these keys end, if they do."""
        return min((e.start for e in self.epochs.values() if e.number > number), default=None)

    def _over(self, number: int, una: int) -> bool:
        """All records under these keys are acknowledged, and no more will come."""
        end = self._end(number)
        return end is not None and end <= una

    def _install(self, key_slot: int, number: int, actions: list[KeyAction]) -> None:
        self._installing = InstallKey(key_slot, self.epochs[number])
        actions.append(self._installing)

    def _gap(self, una: int, busy: Container[int], actions: list[KeyAction]) -> None:
        held = self._slots.index(next(iter(self._usable)))
        if not self._waiting or una < self.epochs[self._waiting[-1]].start:
            return
        if any(number in busy for number in self._usable):
            return
        self._install(1 - held, self._waiting.pop(), actions)

    def _free_acknowledged(self, una: int, busy: Container[int], actions: list[KeyAction]) -> None:
        for key_slot, number in enumerate(self._slots):
            if number is not None and self._over(number, una):
                self._usable.discard(number)
                if number not in busy:
                    self._slots[key_slot] = None
                    actions.append(ClearKey(key_slot))

    def _next_epoch(
        self, una: int, high: int, busy: Container[int], actions: list[KeyAction]
    ) -> None:
        while len(self._waiting) > 1 and self._over(self._waiting[0], una):
            self._waiting.pop(0)
        if not self._waiting:
            return
        following = self._waiting[0]
        if None in self._slots:
            self._waiting.pop(0)
            self._install(self._slots.index(None), following, actions)
            return
        key_slot = min(KEY_SLOTS, key=lambda key_slot: self._slots[key_slot] or 0)
        oldest = self._slots[key_slot]
        end = self._end(oldest) if oldest is not None else None
        if oldest is None or end is None or high < end:
            return
        # From here on no frame that needs the slot is posted, so it does become idle.
        self._usable.discard(oldest)
        if oldest not in busy:
            self._waiting.pop(0)
            self._slots[key_slot] = None
            self._install(key_slot, following, actions)
