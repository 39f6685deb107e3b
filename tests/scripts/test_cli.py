# SPDX-License-Identifier: Apache-2.0
"""`sealane` itself: its version, and its answer where no command is given."""

import tomllib
from pathlib import Path

import pytest

from sealane.scripts.cli import COMMANDS, main

PYPROJECT = Path(__file__).resolve().parents[2] / "pyproject.toml"


def test_version_is_that_of_the_project(capsys):
    assert main(["--version"]) == 0
    version = tomllib.loads(PYPROJECT.read_text())["project"]["version"]
    assert capsys.readouterr().out == f"sealane {version}\n"


def test_no_command_is_a_usage_error(capsys):
    with pytest.raises(SystemExit) as stopped:
        main([])
    assert stopped.value.code == 2
    out, err = capsys.readouterr()
    usage, complaint = err.splitlines()
    assert out == "" and usage.startswith("usage: sealane ")
    assert all(name in complaint for name in COMMANDS)


def test_an_unknown_command_is_one_line(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["nonsense"])
    assert stopped.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1
