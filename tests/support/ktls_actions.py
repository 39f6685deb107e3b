# SPDX-License-Identifier: Apache-2.0
"""kTLS requests to the device, carried out at once: the part of a host that every bench needs."""

from sealane.driver.ktls.rx.events import GoOn, Rekey, ResyncAnswer, ResyncHint


def apply_action(device, rx, event, received_end: int) -> bool:
    """Does what `event` asks for. Returns False if it asks nothing of the device.

    received_end: TCP sequence number after everything that the device has passed on.
    """
    handle = rx.handle
    if isinstance(event, ResyncAnswer):
        device.tls_dev_resync(handle, event.seq, event.number)
    elif isinstance(event, ResyncHint):
        device.resync_hint(handle, event.seq, event.number)
    elif isinstance(event, GoOn):
        device.go_on(handle, event.park)
    elif isinstance(event, Rekey):
        new = device.rekey(handle, event.keys, event.seq, event.epoch, event.number)
        rx.rekeyed(new, received_end % 2**32)
    else:
        return False
    return True
