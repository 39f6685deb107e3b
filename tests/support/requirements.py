# SPDX-License-Identifier: Apache-2.0
"""What a test wants beside the packages from PyPI.

A developer's machine may lack it: the test is left out and pytest names it. In CI nothing is left
out, so there the missing program is a failure.
"""

import os
import shutil

import pytest


def require_programs(*names: str) -> None:
    """Skips the calling test if one of the programs is missing; in CI the test fails."""
    missing = [name for name in names if shutil.which(name) is None]
    if not missing:
        return
    what = f"not installed: {', '.join(missing)}"
    if os.environ.get("CI"):
        pytest.fail(what)
    pytest.skip(what)
