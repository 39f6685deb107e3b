# SPDX-License-Identifier: Apache-2.0
"""Number of random trials per test: a few in `make test`, all in `make test-long`.

An environment variable, if there is one, overrides the number.
"""

import os

import pytest


def seeds(quick, full, variable=None):
    """Parameters 0 to `full` - 1. The first `quick` are for every run, the others are marked."""
    if variable and variable in os.environ:
        return list(range(int(os.environ[variable])))
    marked = [pytest.param(seed, marks=pytest.mark.long) for seed in range(quick, full)]
    return [*range(quick), *marked]


def counts(quick, full, variable=None):
    """Parameters for a test with a loop: `quick` for every run, and `full`, which is marked."""
    if variable and variable in os.environ:
        return [int(os.environ[variable])]
    return [quick, pytest.param(full, marks=pytest.mark.long)]
