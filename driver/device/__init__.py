# SPDX-License-Identifier: Apache-2.0
"""The driver proper: contexts, flow table, commands and completions over a `Transport`.

Knows registers and descriptors. Knows no socket and no TLS stream; `ktls` holds those.
"""
