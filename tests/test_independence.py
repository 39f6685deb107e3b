# SPDX-License-Identifier: Apache-2.0
"""Separation of tests: what is judged, what it is given and what is expected of it.

Stimuli and expectations come from `tests/support`, written from the standards. The driver's and the
model's own checksums, nonces, products and parsers are used only where they are judged. Everybody
shares the contract's constants, enumerations and layouts.
"""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("tests", "rtl_tests", "formal", "scripts", "sim", "driver", "hdl")
FILES = [
    path.relative_to(ROOT).as_posix()
    for path in (
        ROOT / "conftest.py",
        *(f for d in FOLDERS for f in sorted((ROOT / d).rglob("*.py"))),
    )
]
TESTS = [file for file in FILES if file.startswith(("tests/", "rtl_tests/", "formal/"))]


def dotted(file):
    """The module in a file."""
    return file.removesuffix(".py").replace("/", ".")


TEST_MODULES = {dotted(file) for file in TESTS if Path(file).name.startswith("test_")}

# Modules whose functions driver, model or placement compute with, and who may import them.
JUDGED = {
    "sealane.driver.crypto.gcm": {"tests/crypto/test_gcm.py"},
    "sealane.driver.net.checksum": {"tests/net/test_arithmetic.py"},
    "sealane.driver.net.checksum_offload": {"tests/replay/rx/test_hostile.py"},
    "sealane.driver.net.seq": {
        "tests/net/test_arithmetic.py",
        # Faults that are put into the model: its code, except for one line.
        "tests/trials/brute_force/mutants.py",
        "tests/trials/divergence/switches.py",
    },
    "sealane.driver.net.tx_frames": {"tests/net/test_tx_frames.py"},
    "sealane.driver.net.parser": {
        # The parser itself, and for the gateware the model as the expectation.
        "tests/net/test_parser.py",
        "rtl_tests/ingress/test_ingress.py",
        # Functions that are given the result of the driver's parser.
        "tests/net/test_tcp.py",
        "tests/replay/rx/test_hostile.py",
        "tests/replay/test_segmentation.py",
        "tests/replay/tx/test_needed.py",
        "tests/replay/tx/test_plain.py",
    },
    "sealane.driver.model.gcm": {"tests/model/test_gcm.py"},
    "sealane.hdl.abi.flowhash": {"tests/device/test_flowtable.py"},
}
# Plain data from those modules, filled in by hand.
DATA = {("sealane.driver.net.parser", "Parsed")}
# Methods of `CryptoInfo` that compute.
METHODS = {"crypt_text", "nonce"}
MAY_CALL = {"tests/crypto/test_gcm.py"}


def imports(file, text):
    """(module, name) of everything imported. For an entire module the name is empty."""
    package = dotted(file).split(".")
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: -node.level] if node.level else []
            module = ".".join([*above, *filter(None, [node.module])])
            for alias in node.names:
                yield module, alias.name
                yield f"{module}.{alias.name}", ""


def shared(file, text):
    """Names that the file takes from code that it may not use."""
    out = [
        f"{module}: {name or 'the module'}"
        for module, name in imports(file, text)
        if module in JUDGED and file not in JUDGED[module] and (module, name) not in DATA
    ]
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            method, owner = node.func.attr, ast.unparse(node.func.value)
            if method in METHODS and owner != "tls_records" and file not in MAY_CALL:
                out.append(f"{owner}.{method}")
    return out


def imported_tests(file, text):
    """The test modules that a file imports, or imports from."""
    return sorted({module for module, _ in imports(file, text)} & TEST_MODULES)


def all_of(check, files):
    found = {file: check(file, (ROOT / file).read_text()) for file in files}
    return {file: what for file, what in found.items() if what}


def test_stimuli_and_expectations_are_not_made_by_what_is_judged():
    assert all_of(shared, TESTS) == {}


def test_no_test_module_is_imported():
    assert all_of(imported_tests, FILES) == {}


def test_exceptions_are_needed():
    """Each permitted file exists and uses its permission."""
    for module, files in JUDGED.items():
        for file in files:
            found = {name for name, _ in imports(file, (ROOT / file).read_text())}
            assert module in found, (module, file)


@pytest.mark.parametrize(
    "line",
    [
        "from sealane.driver.crypto.gcm import h_powers",
        "from sealane.driver.crypto import gcm",
        "import sealane.driver.crypto.gcm as gcm",
        "from sealane.driver.net import seq as tcp",
        "from sealane.driver.net.parser import parse",
        "keys.nonce(5)",
        "stream.keys(0).crypt_text(1, b'', 0, text)",
    ],
)
def test_shared_code_is_found(line):
    assert shared("rtl_tests/any.py", line)
    assert not shared("rtl_tests/any.py", "from sealane.driver.net.parser import Parsed")
    assert not shared("rtl_tests/any.py", "from tests.support.gf128 import powers_of_h")


@pytest.mark.parametrize(
    "line",
    [
        "from tests.device.test_rx import FLOW",
        "from tests.device import test_rx as rx",
        "import tests.device.test_rx",
        "from .test_rx import FLOW",
        "from . import test_rx",
    ],
)
def test_an_imported_test_module_is_found(line):
    assert imported_tests("tests/device/any.py", line) == ["tests.device.test_rx"]


def test_scenarios_may_be_imported():
    line = "from tests.support.scenarios.safety import test_marks_end_at_the_lowest_park"
    assert not imported_tests("tests/model/any.py", line)
