# SPDX-License-Identifier: Apache-2.0
"""What `sealane replay` prints: shares, reasons and resyncs of a report, for 80 columns."""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from ..config_arguments import flags_of

DIRECTIONS = ("c2s", "s2c")
SIDES = {"rx": "receive", "tx": "transmit", "both": "receive and transmit"}
MAX_RESYNCS = 24  # printed; the report has all


def heading(report: dict[str, Any]) -> Iterator[str]:
    """Lines that say what was replayed: the capture, and each connection."""
    # A file's name may hold line ends and what terminals obey.
    name = "".join(c if c.isprintable() else "?" for c in report["capture"])
    side = SIDES[report.get("direction", "rx")]
    yield f"{name}: {side}, {report['engine']} engine{asked(report)}"
    for connection in report["connections"]:
        line = (
            f"connection {connection['index']}: "
            f"{connection['client']}:{connection['client_port']} to "
            f"{connection['server']}:{connection['server_port']}, "
            f"TLS {connection['version'] or '-'}, {connection['cipher'] or '-'}"
        )
        if connection["reason"] is not None:
            part = "in part: " if connection["offloaded"] else ""
            line += f"; not offloaded{', ' if part else ': '}{part}{connection['reason']}"
        yield line


def directions(report: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and `rx` member of each direction."""
    return sides(report, "rx")


def sides(report: dict[str, Any], member: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and `rx` or `tx` member of each direction that has one."""
    for connection in report["connections"]:
        for way in DIRECTIONS:
            if member in connection[way]:
                yield f"{connection['index']} {way}", connection[way][member]


def asked(report: dict[str, Any]) -> str:
    """The options that are not what they usually are."""
    names = [flags_of(report).removeprefix("with ")]
    for name, usual in (("tx_mode", "auto"), ("tx_rekey", "epochs")):
        value = report.get(name, usual)
        names.append(f"{name.replace('_', '-')} {value}" if value != usual else "")
    said = ", ".join(filter(None, names))
    return f" with {said}" if said else ""


def share(part: int, whole: int) -> str:
    """A percentage; all and nothing are said only where it is so, and of nothing there is none."""
    if not whole:
        return "-"
    if part in (0, whole):
        return "100%" if part else "0%"
    return f"{min(max(part / whole, 0.001), 0.999):.1%}"


SUMMED = (
    "app_records",
    "records_full",
    "records_partial",
    "records_none",
    "segments",
    "segments_decrypted",
    "app_bytes",
    "app_bytes_decrypted",
    "app_bytes_full",
)


def shares(report: dict[str, Any]) -> Table:
    """Of each direction and of all: records, packets and bytes that the hardware decrypted."""
    out = direction_table()
    for name in (
        "app\nrecords",
        "\nwhole",
        "\npart",
        "\nnone",
        "data\npackets",
        "de-\ncrypted",
        "app\nbytes",
        "de-\ncrypted",
        "in whole\nrecords",
    ):
        out.add_column(name, justify="right", overflow="fold")
    total: Counter[str] = Counter()
    for name, rx in directions(report):
        total.update({member: rx[member] for member in SUMMED})
        out.add_row(name, *_shares(rx))
    out.add_section()
    out.add_row("all", *_shares(total))
    return out


def _shares(rx: dict[str, int] | Counter[str]) -> list[str]:
    records, packets, size = rx["app_records"], rx["segments"], rx["app_bytes"]
    hows = ("records_full", "records_partial", "records_none")
    return [
        str(records),
        *(share(rx[how], records) for how in hows),
        str(packets),
        share(rx["segments_decrypted"], packets),
        str(size),
        share(rx["app_bytes_decrypted"], size),
        share(rx["app_bytes_full"], size),
    ]


def reasons(report: dict[str, Any]) -> Table:
    """Why data packets were not decrypted, the most frequent reason first."""
    out = direction_table()
    out.add_column("packets", justify="right", no_wrap=True)
    out.add_column("not decrypted because")
    total: Counter[str] = Counter()
    for name, rx in directions(report):
        total.update(rx["reasons"])
        out.add_row(name, *_reasons(rx["reasons"]))
    out.add_section()
    out.add_row("all", *_reasons(total))
    return out


def _reasons(counts: dict[str, int] | Counter[str]) -> tuple[str, str]:
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return str(sum(counts.values())), ", ".join(f"{n} {name}" for name, n in ordered)


def resyncs(events: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each loss of sync that the device reported, from its events.

    A member has `connection`, `dir`, `packet` and `time` of the first event, `lost_at` and `guess`
    (stream offsets, bytes), `proven_by`, and `resumed_in` (packet) and `resumed_at`. A candidate
    that was not proven has `refused`, `given up` or `not proven` (its chain broke, the walk passed
    it, or the capture ended) for `proven_by`, and `None` behind it.
    """
    found: list[dict[str, Any]] = []
    waiting: dict[tuple[int, str], dict[int, dict[str, Any]]] = {}
    for event in events:
        asked = waiting.setdefault((event["connection"], event["dir"]), {})
        kind, guess = event["kind"], event["guess"]
        first = {
            name: event[name] for name in ("connection", "dir", "packet", "time", "lost_at")
        } | {"guess": guess, "proven_by": "not proven", "resumed_in": None, "resumed_at": None}
        if kind == "resync_request":
            asked[guess] = first
            found.append(first)
        elif kind == "resync_refused" and guess in asked:
            asked.pop(guess)["proven_by"] = "refused"
        elif kind == "resumed":
            one = asked.pop(guess, None)
            if one is None:  # the walk arrived, or a hint, without a question
                found.append(one := first)
            one["proven_by"] = event["proven_by"]
            one["resumed_in"], one["resumed_at"] = event["packet"], event["resumed_at"]
        elif kind == "given_up":
            lost = [guess for guess, one in asked.items() if one["lost_at"] == event["lost_at"]]
            if not lost:
                found.append(first)
            for one in [asked.pop(guess) for guess in lost] or [first]:
                one["proven_by"] = "given up"
    return found


def resync_table(events: Iterable[dict[str, Any]]) -> Table:
    """A line for each resync, `MAX_RESYNCS` at most; positions are bytes of the stream."""
    every = resyncs(events)
    out = direction_table()
    for name in ("packet", "time", "lost at", "guess", "proven by", "in packet", "resumed at"):
        out.add_column(name, justify="left" if name == "proven by" else "right", no_wrap=True)
    for one in every[:MAX_RESYNCS]:
        numbers = [
            "" if one[name] is None else str(one[name])
            for name in ("lost_at", "guess", "resumed_in", "resumed_at")
        ]
        out.add_row(
            f"{one['connection']} {one['dir']}",
            str(one["packet"]),
            f"{one['time']:.3f} s",
            *numbers[:2],
            one["proven_by"],
            *numbers[2:],
        )
    if len(every) > MAX_RESYNCS:
        out.caption = f"and {len(every) - MAX_RESYNCS} more; --report writes the events of all"
    return out


def direction_table() -> Table:
    """A table whose first column names the direction."""
    out = Table(
        box=SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        caption_justify="left",
    )
    out.add_column("way", no_wrap=True)
    return out
