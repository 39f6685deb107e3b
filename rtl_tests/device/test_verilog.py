# SPDX-License-Identifier: Apache-2.0
"""The generated Verilog: its ports, its description, and what Verilator's lint says of it."""

import json
import os
import re
import subprocess

import pytest

from sealane.hdl.abi.config import Config
from sealane.scripts.cli import main
from sealane.sim.build import WAIVERS, verilator_root


@pytest.mark.parametrize(
    "options",
    [
        {},
        {
            "flows": 4,
            "record_slots": 1,
            "runs": 2,
            "ring_words": 1024,
            "ghash_lanes": 7,
            "aes_round_registers": 2,
            "events": 8,
        },
        {"flows": 4, "ring_words": 256, "max_frame": 2048, "tx_flows": 8, "tx_ring_words": 256},
    ],
)
def test_lint_is_clean_and_ports_are_as_described(options, tmp_path):
    out = tmp_path / "device.v"
    arguments = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    assert main(["verilog", "-o", str(out), *arguments]) == 0
    root = verilator_root()
    done = subprocess.run(
        [
            root / "bin" / "verilator",
            "--lint-only",
            "-Wall",
            "--top-module",
            "sealane",
            WAIVERS,
            out,
        ],
        capture_output=True,
        text=True,
        env=os.environ | {"VERILATOR_ROOT": str(root)},
    )
    assert done.returncode == 0, done.stderr[:2000]

    about = json.loads(out.with_suffix(".json").read_text())
    assert about["config"] == Config(**options).as_dict()
    text = out.read_text()
    top = text[text.index("module sealane(") :]
    top = top[: top.index("endmodule")]
    declared = {
        name: {"direction": way, "width": int(high or 0) + 1}
        for way, high, name in re.findall(r"^  (input|output) (?:\[(\d+):0\] )?(\w+);", top, re.M)
    }
    assert declared == about["ports"]
    assert declared["s_axis_tdata"] == {"direction": "input", "width": 128}
    assert declared["m_meta_tdata"] == {"direction": "output", "width": 512}
    assert declared["s_axil_awready"] == {"direction": "output", "width": 1}
    assert ("s_tx_axis_tdata" in declared) == ("tx_flows" in options)
    if "tx_flows" in options:
        assert declared["s_tx_meta_tdata"] == {"direction": "input", "width": 256}
        assert declared["m_tx_comp_tdata"] == {"direction": "output", "width": 128}
        assert declared["m_tx_axis_tkeep"] == {"direction": "output", "width": 16}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["verilog", "-o", "x.v", "--flows", "63"], "flows: a power of two"),
        (["verilog", "-o", "x.v", "--flows", "many"], "invalid int value"),
        (["verilog", "-o", "/no/such/folder/x.v"], "/no/such/folder/x.v: No such file"),
        (["verilog", "-o", "x.json"], "another suffix"),
        (["verilog", "-o", "x.v", "--name", "1x"], "no module name"),
        (["verilog"], "-o/--output"),
        (["bench", "--packets", "0"], "--packets"),
        (["paint"], "paint"),
        ([], "COMMAND"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(arguments, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    try:
        status = main(arguments)
    except SystemExit as end:
        status = end.code
    error = capsys.readouterr().err
    assert status == 2
    assert said in error and error.count("\n") == 1 and "Traceback" not in error
    assert not list(tmp_path.iterdir())
