# SPDX-License-Identifier: Apache-2.0
"""The documents say what is there."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from sealane.scripts.docs import registers as docgen

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])

# A path from the top of the project, and a test where one is named in it.
FOLDERS = r"\.ci|\.github|captures|docs|driver|formal|hdl|rtl_tests|scripts|sim|tests"
NAMED = re.compile(rf"(?<![\w./-])((?:{FOLDERS})/[\w./-]*)(?:::(\w+))?")


def test_registers_page_is_current(tmp_path):
    page = ROOT / "docs" / "registers.md"
    assert docgen.main(["--check", "-o", str(page)]) == 0
    stale = tmp_path / "registers.md"
    stale.write_text(page.read_text().replace("IDENT", "IDENTITY"))
    assert docgen.main(["--check", "-o", str(stale)]) == 1


@cache
def names_in(path):
    """What a file defines or imports: every test that pytest finds in it is among them."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    defined = {node.name for node in nodes if isinstance(node, ast.FunctionDef)}
    imported = [a for node in nodes if isinstance(node, ast.ImportFrom) for a in node.names]
    return defined | {alias.asname or alias.name for alias in imported}


def missing(page):
    """Files, folders and tests that a page names and that are not there."""
    out = []
    for file, test in re.findall(
        r"`((?:tests|rtl_tests|formal)/[\w/]+\.py)(?:::(\w+))?`", page.read_text()
    ):
        path = ROOT / file
        if not path.exists() or (test and test not in names_in(path)):
            out.append(f"{file}::{test}")
    return out


def test_every_test_in_the_plan_exists():
    plan = ROOT / "docs" / "test-plan.md"
    assert "`tests/scripts/test_docs.py::test_every_test_in_the_plan_exists`" in plan.read_text()
    assert not missing(plan)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_everything_that_a_page_names_exists(page):
    assert not missing(page)


def test_a_name_that_is_not_there_is_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "`tests/scripts/test_docs.py::missing`, `tests/none.py` and hdl/none/. See `hdl/abi/`,\n"
        "    pytest tests/scripts/test_docs.py::none captures/NAME.keys\n"
    )
    assert missing(page) == ["tests/none.py::", "hdl/none/::", "tests/scripts/test_docs.py::none"]


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
