# SPDX-License-Identifier: Apache-2.0
"""The worked examples of the theory of operation are what the command prints, and they hold."""

from pathlib import Path
from xml.etree import ElementTree

import pytest

from sealane.scripts.docs import worked_example, worked_gcm, worked_loss

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / worked_example.PAGE


def test_the_page_shows_what_the_command_prints(capsys):
    assert worked_example.main([]) == 0
    texts = worked_example.blocks()
    assert capsys.readouterr().out == "\n\n".join(texts.values()) + "\n"
    page = PAGE.read_text()
    for name, text in texts.items():
        assert worked_example.put(page, name, text) == page, "run the command with --write"


def test_write_puts_the_examples_into_the_page(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page, target = PAGE.read_text(), tmp_path / worked_example.PAGE
    target.parent.mkdir()
    target.write_text(page.replace("X after packets", "X before packets"))
    assert worked_example.main(["--write"]) == 0
    assert target.read_text() == page
    for name in worked_example.FIGURES:
        drawn = (worked_example.IMAGES / name).read_text()
        assert drawn == (ROOT / worked_example.IMAGES / name).read_text(), name
        ElementTree.fromstring(drawn)


def test_a_page_without_a_place_is_refused():
    with pytest.raises(ValueError, match="0 places"):
        worked_example.put(PAGE.read_text(), "nothing", "")


def test_a_record_in_pieces_sums_to_zero_in_every_order():
    lines = worked_gcm.Example().lines()
    ends = [line.split()[-1] for line in lines if line.startswith("X after")]
    assert ends == ["0" * 32] * 6
    # In between X is not 0: what the example shows is not an accident.
    assert sum(line.startswith("  X ") and not line.endswith("0" * 32) for line in lines) == 2


def test_a_lost_header_costs_the_records_in_the_hole():
    outcome = worked_loss.outcome()
    assert outcome.hows == ("full", "partial", "partial", "full")
    assert [len(a.events) for a in outcome.arrivals] == [0, 0, 1, 0, 1, 0, 0]
