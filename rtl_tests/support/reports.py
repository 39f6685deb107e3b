# SPDX-License-Identifier: Apache-2.0
"""Comparison of the reports of two replays."""


def differences(one, other, path=""):
    """Where two reports differ, as lines."""
    if isinstance(one, dict) and isinstance(other, dict):
        return [
            line
            for key in {**one, **other}
            for line in differences(one.get(key), other.get(key), f"{path}.{key}")
        ]
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        return [
            line
            for i, pair in enumerate(zip(one, other, strict=True))
            for line in differences(*pair, f"{path}[{i}]")
        ]
    return [] if one == other else [f"{path}: {one!r}, {other!r}"]
