# SPDX-License-Identifier: Apache-2.0
"""In CI nothing is left out: a test that was skipped fails the run. No example is timed."""

import os

import pytest
from hypothesis import settings

pytest.register_assert_rewrite("tests.support.scenarios")

settings.register_profile("untimed", deadline=None)  # machines are busy at times
settings.load_profile("untimed")

# What takes longest, longest first: so all cores are busy until the end.
ORDER = ("formal/", "rtl_tests/device/", "rtl_tests/system/", "rtl_tests/cipher/", "rtl_tests/")

_skipped = []


def pytest_collection_modifyitems(items):
    """Puts the tests into the order of `ORDER`; among themselves they stay as they are."""
    items.sort(
        key=lambda item: next(
            (i for i, place in enumerate(ORDER) if item.nodeid.startswith(place)), len(ORDER)
        )
    )


def pytest_runtest_logreport(report):
    """Notes what was skipped; with xdist this runs where the results come together."""
    if report.skipped and not hasattr(report, "wasxfail"):
        _skipped.append(report.nodeid)


def pytest_sessionfinish(session):
    """Turns success into failure if anything was skipped."""
    if os.environ.get("CI") and _skipped and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter):
    """Says why a run without a failed test failed."""
    if os.environ.get("CI") and _skipped:
        terminalreporter.write_line(f"left out, which CI does not allow: {', '.join(_skipped)}")
