# SPDX-License-Identifier: Apache-2.0
"""Keys, and AES-GCM as TLS uses it. Knows no TCP and no device."""
