# SPDX-License-Identifier: Apache-2.0
"""TLS 1.2 and 1.3 read from outside with a key log: records, handshakes, keys.

Serves replays, which must see what an application's TLS library would see. The device driver
does not need it.
"""
