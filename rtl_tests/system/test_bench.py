# SPDX-License-Identifier: Apache-2.0
"""`sealane bench` on the gateware: a few frames of each kind of case."""

import json

import pytest

from sealane.scripts.bench import command as bench
from sealane.scripts.cli import main

PACKETS = 100
# Bits of payload a clock by the size of records. The cipher does a block of 128 bits a clock: less
# than a block at the ends of text, headers and tags cost or save, and the pipeline fills once.
LEAST = {16384: 110, 64: 90}


@pytest.mark.parametrize("direction", ["tx", "both"])
def test_speed(direction, tmp_path, monkeypatch, capsys):
    """Text and tags are right (else there is no report), and the clocks are the gateware's."""
    monkeypatch.setattr(bench, "RECORD_BYTES", tuple(LEAST))
    monkeypatch.setattr(bench, "FLOWS", (8,))
    monkeypatch.setattr(bench, "own_captures", list)
    out = tmp_path / "out.json"
    arguments = ["bench", "--direction", direction, "--packets", str(PACKETS)]
    assert main([*arguments, "--json", str(out)]) == 0
    shown = capsys.readouterr()
    assert shown.err == "" and shown.out
    for case in json.loads(out.read_text())["cases"]:
        assert LEAST[case["record_bytes"]] < case["bits_per_clock"]
        assert sum(case["by_way"].values()) == PACKETS
        sides = [case] if direction == "tx" else [case["rx"], case["tx"]]
        for side in sides:
            assert side["bits_per_clock"] <= 128
            assert 0 <= side["input_stall_cycles"] < side["cycles"] <= case["cycles"]
