# SPDX-License-Identifier: Apache-2.0
"""Random trials: each has a command for long runs and a short form among the tests."""
