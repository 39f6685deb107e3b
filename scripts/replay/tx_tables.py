# SPDX-License-Identifier: Apache-2.0
"""What `sealane replay` prints of transmit: identity, ways and bytes, for 80 columns."""

from collections import Counter
from typing import Any

from rich.table import Table

from sealane.driver.ktls.tx.plan import Way

from .tables import direction_table, share, sides

KINDS = ("frame_bytes", "reread_bytes", "tag_in_bytes", "tag_out_bytes", "cpu_bytes")


def tx_tables(report: dict[str, Any]) -> dict[str, Table]:
    """The tables by title; none without a `tx` member."""
    directions = list(sides(report, "tx"))
    if not directions:
        return {}
    tables = {"What left, against the capture": identity(directions)}
    if any(any(tx["by_way"].values()) for _, tx in directions):
        tables["Segments by way"] = ways(directions)
    if any(any(tx["bus_bytes"].values()) for _, tx in directions):
        tables["Bytes by way, all directions"] = costs(directions)
    if any(tx["reasons"] or tx["wire_reasons"] for _, tx in directions):
        tables["Segments that were not encrypted"] = exceptions(directions)
    return tables


def identity(directions: list[tuple[str, dict[str, Any]]]) -> Table:
    """Of each direction and of all: segments, and what left."""
    out = direction_table()
    members = (
        "segments",
        "identical",
        "clear_bytes",
        "dropped",
        "tag_mismatch",
        "wire",
        "retransmitted",
    )
    heads = (
        "data\nsegments",
        "iden-\ntical",
        "clear\nbytes",
        "\ndropped",
        "tag\nmismatch",
        "sent as\nthey are",
        "retrans-\nmitted",
    )
    for head in heads:
        out.add_column(head, justify="right", overflow="fold")
    total: Counter[str] = Counter()
    for name, tx in directions:
        total.update({member: tx[member] for member in members})
        out.add_row(name, *_identity(tx, members))
    out.add_section()
    out.add_row("all", *_identity(total, members))
    return out


def _identity(tx: dict[str, int] | Counter[str], members: tuple[str, ...]) -> list[str]:
    cells = [str(tx[member]) for member in members]
    cells[1] = share(tx["identical"], tx["segments"])
    return cells


def ways(directions: list[tuple[str, dict[str, Any]]]) -> Table:
    """Of each direction and of all: segments by way."""
    out = direction_table()
    for way in Way:
        out.add_column(way.value.replace("_", "\n"), justify="right", vertical="bottom")
    total: Counter[str] = Counter()
    for name, tx in directions:
        total.update(tx["by_way"])
        out.add_row(name, *(str(tx["by_way"][way.value]) for way in Way))
    out.add_section()
    out.add_row("all", *(str(total[way.value]) for way in Way))
    return out


def costs(directions: list[tuple[str, dict[str, Any]]]) -> Table:
    """Of each way: segments and the bytes that they cost, on the host's bus and in software."""
    out = direction_table()
    for head in ("segments", "frames", "read\nagain", "tags\nin", "tags\nout", "by\nsoftware"):
        out.add_column(head, justify="right")
    for way in Way:
        segments = sum(tx["by_way"][way.value] for _, tx in directions)
        sums = [
            sum(tx["bus_bytes"][kind].get(way.value, 0) for _, tx in directions) for kind in KINDS
        ]
        if segments or any(sums):
            out.add_row(way.value, str(segments), *map(str, sums))
    return out


def exceptions(directions: list[tuple[str, dict[str, Any]]]) -> Table:
    """Why segments were dropped, or left with the capture's own bytes."""
    out = direction_table()
    out.add_column("segments", justify="right")
    out.add_column("what became of them", no_wrap=True)
    out.add_column("because")
    for name, tx in directions:
        for what, member in (("dropped", "reasons"), ("sent as they are", "wire_reasons")):
            for reason, count in sorted(tx[member].items(), key=lambda item: (-item[1], item[0])):
                out.add_row(name, str(count), what, reason)
    return out
