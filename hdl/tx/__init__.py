# SPDX-License-Identifier: Apache-2.0
"""Transmit: host frames with plaintext records become the frames of a software TLS stack.

Holds its own walker, rings and commit; reads headers with the receive parser and flow table.
Knows no keys: spans go to the shared cipher, ciphertext and tags come back.
"""
