# SPDX-License-Identifier: Apache-2.0
"""Scenarios that run on more than one device. Test modules of both engines import them."""
