# SPDX-License-Identifier: Apache-2.0
"""Sealane: a network card's inline TLS engine as open hardware, with its driver."""
