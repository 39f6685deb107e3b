# SPDX-License-Identifier: Apache-2.0
"""Hooks of the test run: order, and failure on skipped tests in CI. No example is timed."""

import os

import pytest
from hypothesis import settings

pytest.register_assert_rewrite("tests.support.scenarios")

settings.register_profile("untimed", deadline=None)  # machines are busy at times
settings.load_profile("untimed")

# The longest tests come first, longest first, so that all cores are busy until the end.
ORDER = ("formal/", "rtl_tests/device/", "rtl_tests/system/", "rtl_tests/cipher/", "rtl_tests/")

_skipped = []


def pytest_collection_modifyitems(items):
    """Sorts the tests by `ORDER`. Tests of equal rank keep their order."""
    items.sort(
        key=lambda item: next(
            (i for i, place in enumerate(ORDER) if item.nodeid.startswith(place)), len(ORDER)
        )
    )


def pytest_runtest_logreport(report):
    """Notes skipped tests. With xdist this runs where the results come together."""
    if report.skipped and not hasattr(report, "wasxfail"):
        _skipped.append(report.nodeid)


def pytest_sessionfinish(session):
    """Turns success into failure if anything was skipped."""
    if os.environ.get("CI") and _skipped and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter):
    """Reports why a run without a failed test failed."""
    if os.environ.get("CI") and _skipped:
        terminalreporter.write_line(f"left out, which CI does not allow: {', '.join(_skipped)}")
