# SPDX-License-Identifier: Apache-2.0
"""Netlists compared with names and hierarchy aside."""

import pytest

from sealane.scripts.same_netlist import main

FLAT = """
module top(input clk, input [3:0] a, input [3:0] d, input we, output reg [3:0] q, output r);
  reg [3:0] store [0:15];
  always @(posedge clk) begin
    if (we) store[a] <= d;
    q <= store[a] ^ d;
  end
  reg held = 1'b1;
  always @(posedge clk) held <= held & we;
  assign r = held;
endmodule
"""
NESTED = """
module keep(input clk, input enable, output out);
  reg state = 1'b1;
  always @(posedge clk) state <= state & enable;
  assign out = state;
endmodule
module other(input clk, input [3:0] a, input [3:0] d, input we, output [3:0] q, output r);
  keep inner(.clk(clk), .enable(we), .out(r));
  reg [3:0] result;
  reg [3:0] words [0:15];
  assign q = result;
  always @(posedge clk) begin
    result <= words[a] ^ d;
    if (we) words[a] <= d;
  end
endmodule
"""


def compare(tmp_path, before, after):
    for name, text in (("before.v", before), ("after.v", after)):
        (tmp_path / name).write_text(text)
    return main([str(tmp_path / "before.v"), str(tmp_path / "after.v")])


def test_names_and_hierarchy_do_not_matter(tmp_path, capsys):
    assert compare(tmp_path, FLAT, NESTED) == 0
    assert capsys.readouterr().out.startswith("same netlist: ")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("store[a] ^ d", "store[a] | d"),
        ("held = 1'b1", "held = 1'b0"),
        ("if (we) store", "if (!we) store"),
        ("[0:15]", "[0:7]"),
        ("held & we", "held & a[0]"),
        ("store[a] <= d", "store[d] <= d"),
        ("assign r = held", "assign r = ~held"),
    ],
)
def test_a_change_of_the_hardware_is_found(tmp_path, capsys, old, new):
    assert old in FLAT
    assert compare(tmp_path, FLAT, FLAT.replace(old, new)) == 1
    assert capsys.readouterr().out.startswith("different netlists: ")


def test_a_missing_file_is_one_line(tmp_path, capsys):
    assert main([str(tmp_path / "none.v"), str(tmp_path / "none.v")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
