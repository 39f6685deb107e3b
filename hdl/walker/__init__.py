# SPDX-License-Identifier: Apache-2.0
"""The receive walker: finds TLS records in TCP segments and tracks which bytes were seen.

Knows sequence numbers, record headers and lengths. Knows no keys and never sees plaintext: it
tells the cipher about spans and learns only verdicts.
"""
