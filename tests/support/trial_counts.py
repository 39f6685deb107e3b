# SPDX-License-Identifier: Apache-2.0
"""How many random trials a test makes: a few in `make test`, all in `make test-long`.

A variable of the environment, where there is one, says how many instead.
"""

import os

import pytest


def seeds(quick, full, variable=None):
    """Parameters 0 to `full` - 1: the first `quick` of them for every run, the others marked."""
    if variable and variable in os.environ:
        return list(range(int(os.environ[variable])))
    marked = [pytest.param(seed, marks=pytest.mark.long) for seed in range(quick, full)]
    return [*range(quick), *marked]


def counts(quick, full, variable=None):
    """Parameters for a test with a loop: `quick` for every run and `full`, which is marked."""
    if variable and variable in os.environ:
        return [int(os.environ[variable])]
    return [quick, pytest.param(full, marks=pytest.mark.long)]
