# SPDX-License-Identifier: Apache-2.0
"""Programs that a test needs besides the packages from PyPI.

A developer's machine may lack one. The test is then skipped and pytest names the program. CI skips
nothing, so a missing program is a failure there.
"""

import os
import shutil

import pytest


def require_programs(*names: str) -> None:
    """Skips the calling test if one of the programs is missing. In CI the test fails."""
    missing = [name for name in names if shutil.which(name) is None]
    if not missing:
        return
    what = f"not installed: {', '.join(missing)}"
    if os.environ.get("CI"):
        pytest.fail(what)
    pytest.skip(what)
