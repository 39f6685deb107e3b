# SPDX-License-Identifier: Apache-2.0
"""NIST CAVP GCM vectors through the gateware's data path.

All cases with 96-bit IV, 128-bit tag and keys of 128 and 256 bits; those for encryption are opened.
Messages follow each other without a gap, as many as there are contexts. Keys here protect nothing.
"""

import pytest
from cryptography_vectors import open_vector_file

from rtl_tests.support.verilated import Vectors
from sealane.hdl.abi.config import Config
from sealane.hdl.cipher.gcm import Gcm
from tests.support.gf128 import powers_of_h

FILES = ("gcmDecrypt128", "gcmDecrypt256", "gcmEncryptExtIV128", "gcmEncryptExtIV256")


def cases(name):
    """Dictionaries of byte strings, `fail` where the tag is wrong."""
    path = f"ciphers/AES/GCM/{name}.rsp"
    section, case, found = {}, None, []
    with open_vector_file(path, "r") as lines:
        for line in map(str.strip, lines):
            if line.startswith("["):
                name, value = line.strip("[]").split(" = ")
                section[name] = int(value)
            elif line.startswith("Count"):
                case = {"lengths": dict(section)}
                found.append(case)
            elif line == "FAIL":
                case["fail"] = True
            elif " = " in line or line.endswith("="):
                name, _, value = line.partition("=")
                case[name.strip()] = bytes.fromhex(value.strip())
    return [c for c in found if c["lengths"]["IVlen"] == 96 and c["lengths"]["Taglen"] == 128]


def message_slots(gcm, lanes, context, case):
    """Rows of inputs for one message."""
    key, iv, text, aad = (case[name] for name in ("Key", "IV", "CT", "AAD"))
    layout = gcm.datapath.rest_layout
    parts = [(aad[i : i + 16], 1) for i in range(0, len(aad), 16)]
    first = len(parts)
    parts += [(text[i : i + 16], 2 + i // 16) for i in range(0, len(text), 16)]
    rows = []
    for i, (block, counter) in enumerate([*parts, (case["Tag"], 1)]):
        left, tag = len(parts) - i, i == len(parts)
        lengths = (8 * len(aad)) << 64 | 8 * len(text)
        power = 0 if tag else (lanes - 1 if left > lanes else left)
        rest = layout.const(
            {
                "mask": (1 << len(block)) - 1,
                "inject": lengths if tag else 0,
                "power": context << 3 | power,
                "fresh": tag or i < lanes,
                "tail": tag or left <= lanes,
                "last": tag,
                "is_tag": tag,
                "with_j0": tag,
            }
        ).as_bits()
        cipher = gcm.datapath.cipher_layout.const(
            {
                "key": int.from_bytes(key, "little"),
                "key256": len(key) == 32,
                "counter_block": int.from_bytes(iv + counter.to_bytes(4, "big"), "little"),
            }
        ).as_bits()
        rows.append(
            {
                "slot_valid": 1,
                "cipher": cipher,
                "rest": rest,
                "block": int.from_bytes(block, "little"),
            }
        )
    return rows, first


@pytest.mark.parametrize(
    ("lanes", "registers"), [(4, 1), (1, 1), (7, 2)], ids=["default", "one lane", "deep"]
)
def test_cavp(lanes, registers):
    # A simulator with a context for each case takes minutes to build.
    config = Config(ghash_lanes=lanes, aes_round_registers=registers, flows=256)
    gcm, simulator = Gcm(config), Vectors(Gcm, config)
    latency = 14 * registers + 1 + lanes + 3
    all_cases = [case for name in FILES for case in cases(name)]
    assert len(all_cases) == 1500
    failures = 0
    for start in range(0, len(all_cases), config.flows):
        some = all_cases[start : start + config.flows]
        failures += check(gcm, simulator, lanes, latency, some)
    assert failures == 387


def check(gcm, simulator, lanes, latency, some):
    """Runs cases with a context each; how many of them must fail."""
    load, rows, expected = [], [], []
    for context, case in enumerate(some):
        for index, power in enumerate(powers_of_h(case["Key"])):
            load.append(
                {
                    "power_write": 1,
                    "power_index": context << 3 | index,
                    "power_value": int.from_bytes(power, "big"),
                }
            )
        slots, first = message_slots(gcm, lanes, context, case)
        rows += slots
        expected.append((first, case))
    outputs = simulator.run(load + rows + [{}] * (latency + 2))
    texts = iter([row["text"] for row in outputs if row["text_valid"]])
    verdicts = [row["good"] for row in outputs if row["done"]]
    assert len(verdicts) == len(some)
    failures = 0
    for (first, case), good in zip(expected, verdicts, strict=True):
        blocks = [next(texts) for _ in range(first + -(-len(case["CT"]) // 16))]
        fails = case.get("fail", False)
        failures += fails
        assert good == (not fails)
        if not fails:
            plain = b"".join(block.to_bytes(16, "little") for block in blocks[first:])
            assert plain[: len(case["PT"])] == case["PT"]
    return failures
