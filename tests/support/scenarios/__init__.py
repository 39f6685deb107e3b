# SPDX-License-Identifier: Apache-2.0
"""Scenarios that run on more than one device: test modules of both engines import them."""
