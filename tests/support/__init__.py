# SPDX-License-Identifier: Apache-2.0
"""Helpers of all tests: frames, streams, captures, hosts and checkers. Never tests."""
