# SPDX-License-Identifier: Apache-2.0
"""The kernel's part of TLS offload, sans-IO: `KtlsRx` in `rx`, `KtlsTx` in `tx`."""
