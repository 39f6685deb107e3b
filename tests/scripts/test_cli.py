# SPDX-License-Identifier: Apache-2.0
"""`sealane` itself: its version, and its answer where no command is given."""

import tomllib
from pathlib import Path

import pytest

from sealane.scripts.cli import COMMANDS, main

PYPROJECT = Path(__file__).resolve().parents[2] / "pyproject.toml"


def test_version_is_that_of_the_project(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--version"])
    assert stopped.value.code == 0
    version = tomllib.loads(PYPROJECT.read_text())["project"]["version"]
    assert capsys.readouterr().out == f"sealane {version}\n"


def test_no_command_is_a_usage_error(capsys):
    with pytest.raises(SystemExit) as stopped:
        main([])
    assert stopped.value.code == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert all(name in err for name in COMMANDS)


def test_an_unknown_command_is_one_line(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["nonsense"])
    assert stopped.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_an_option_named_version_of_a_command_is_its_own(capsys):
    """`sweep --version 1.2` is the version of TLS."""
    with pytest.raises(SystemExit) as stopped:
        main(["sweep", "--version", "9"])
    assert stopped.value.code == 2
    assert "--version" in capsys.readouterr().err
