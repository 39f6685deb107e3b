# SPDX-License-Identifier: Apache-2.0
"""The command `sealane replay`, and checks of its report."""

import subprocess
import sys
from pathlib import Path

SEALANE = Path(sys.executable).parent / "sealane"


# Members of a direction's `rx` in the schema sealane.replay/1, with their types.
RX = {
    "app_bytes": int,
    "app_sha256": str,
    "app_records": int,
    "other_records": int,
    "refused_records": int,
    "records_full": int,
    "records_partial": int,
    "records_none": int,
    "closed_records": int,
    "segments": int,
    "segments_decrypted": int,
    "reasons": dict,
    "resync": dict,
    "parks": int,
    "key_updates": int,
    "marks_undone": int,
    "verdict_mismatch": int,
    "wrong_marks": int,
    "leftover_bytes": int,
    "app_bytes_decrypted": int,
    "app_bytes_full": int,
}


EVENT = [
    "packet",
    "time",
    "connection",
    "dir",
    "kind",
    "lost_at",
    "guess",
    "proven_by",
    "resumed_at",
]


def sealane(*arguments):
    """Runs the installed command."""
    return subprocess.run(
        [SEALANE, "replay", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def refused(*arguments):
    """Runs the command, which must fail with status 2 and one line, and returns that line."""
    done = sealane(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    return done.stderr
