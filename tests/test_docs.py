# SPDX-License-Identifier: Apache-2.0
"""The documents say what is there."""

import ast
import re
from pathlib import Path

import pytest
from sealane.scripts import docgen

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])


def test_registers_page_is_current(tmp_path):
    page = ROOT / "docs" / "registers.md"
    assert docgen.main(["--check", "-o", str(page)]) == 0
    stale = tmp_path / "registers.md"
    stale.write_text(page.read_text().replace("IDENT", "IDENTITY"))
    assert docgen.main(["--check", "-o", str(stale)]) == 1


def test_every_test_in_the_plan_exists():
    plan = (ROOT / "docs" / "test-plan.md").read_text()
    named = re.findall(r"`((?:tests|cocotb_tests)/\w+\.py)::(\w+)`", plan)
    assert named
    missing = []
    for file, test in named:
        path = ROOT / file
        tree = ast.parse(path.read_text()) if path.exists() else ast.Module([], [])
        if not any(isinstance(n, ast.FunctionDef) and n.name == test for n in ast.walk(tree)):
            missing.append(f"{file}::{test}")
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    """Links between files of the project; an anchor must be a heading of its page."""
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if re.match(r"\w+:", target):
            continue
        name, _, anchor = target.partition("#")
        other = (page.parent / name).resolve() if name else page
        assert other.exists(), target
        if anchor:
            heads = re.findall(r"^#+ (.+)$", other.read_text(), re.M)
            slugs = {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in heads}
            assert anchor in slugs, target
