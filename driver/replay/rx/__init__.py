# SPDX-License-Identifier: Apache-2.0
"""The receiving hosts of a replay: TCP, TLS library and kTLS for each direction."""
