# SPDX-License-Identifier: Apache-2.0
"""What a retransmitted segment costs by each way, measured on a capture.

    python -m sealane.scripts.tx_cost CAPTURE --keylog FILE

The capture is replayed through transmit (`sealane replay --direction tx --engine model`) once as
the driver chooses, which goes by `seek` and `tag`, and once with each of the other ways forced.
Read again are the bytes of a record's beginning that the host hands to the device only to be
hashed; by software go bytes that it encrypts, or reads for a tag.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from sealane.driver.ktls.tx.plan import TxMode, Way
from sealane.driver.model.device import ModelTransport
from sealane.driver.replay.capture import CaptureError, Packet, read_capture
from sealane.driver.replay.tx.replay import TxReplay, TxTrace
from sealane.driver.tls.keylog import Keylog, KeylogError
from sealane.hdl.abi.config import Config

# The two ways that the driver chooses by itself, and those that have to be forced.
RUNS = {
    TxMode.AUTO: (Way.SEEK, Way.TAG),
    TxMode.REBUILD: (Way.REBUILD,),
    TxMode.NEXT_RECORD: (Way.NEXT_RECORD,),
    TxMode.SOFTWARE: (Way.SOFTWARE,),
}


@dataclass(frozen=True)
class Cost:
    """Retransmitted segments that went one way: how many, their bytes of payload, the bytes read
    again and those that went through software for them. new: segments that are no retransmissions
    and went that way too."""

    way: Way
    segments: int
    payload: int
    reread: int
    cpu: int
    new: int

    def per_segment(self, count: int) -> str:
        """A sum divided by the segments."""
        return f"{count / self.segments:.0f}" if self.segments else "-"

    @property
    def times(self) -> str:
        """Bytes read again, in bytes of the segments themselves."""
        return f"{self.reread / self.payload:.1f}" if self.payload else "-"


def costs_of(packets: Sequence[Packet], keylog: Keylog) -> list[Cost]:
    """The cost of each way over all directions of a capture. Raises `ValueError` where a replay
    does not give the capture's own segments: then it measures nothing."""
    config = replace(Config(), tx_flows=Config().flows)
    found = []
    for mode, ways in RUNS.items():
        runner = TxReplay(ModelTransport(config), keylog, config, mode=mode)
        runner.run(packets)
        if not all(segment.identical for segment in runner.trace):
            raise ValueError(f"segments that are not the capture's, with tx-mode {mode}")
        found += [_cost(way, runner.trace) for way in ways]
    return found


def _cost(way: Way, trace: Sequence[TxTrace]) -> Cost:
    went = [segment for segment in trace if segment.outcome == way]
    again = [segment for segment in went if segment.retransmitted]
    return Cost(
        way,
        len(again),
        sum(s.length for s in again),
        sum(s.reread for s in again),
        sum(s.cpu for s in again),
        len(went) - len(again),
    )


def table(costs: Sequence[Cost]) -> Table:
    """The costs for 80 columns."""
    out = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    out.add_column("way", vertical="bottom", no_wrap=True)
    for head in (
        "retransmitted\nsegments",
        "bytes\neach",
        "read again\nfor each",
        "times the\nsegment",
        "by software\nfor each",
        "new segments\nthat way",
    ):
        out.add_column(head, justify="right")
    for cost in costs:
        out.add_row(
            cost.way,
            str(cost.segments),
            cost.per_segment(cost.payload),
            cost.per_segment(cost.reread),
            cost.times,
            cost.per_segment(cost.cpu),
            str(cost.new),
        )
    return out


def main(argv: list[str] | None = None) -> int:
    """The command; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m sealane.scripts.tx_cost",
        description="What a retransmitted segment costs by each way, in bytes.",
    )
    parser.add_argument("capture", type=Path, help="pcap or pcapng, plain or gzip")
    parser.add_argument(
        "--keylog",
        type=Path,
        required=True,
        metavar="FILE",
        help="secrets in the SSLKEYLOGFILE format",
    )
    args = parser.parse_args(argv)
    try:
        packets = read_capture(args.capture).packets
        costs = costs_of(packets, Keylog.read(args.keylog))
    except (CaptureError, KeylogError, ValueError) as error:
        print(f"tx_cost: {' '.join(str(error).splitlines())}", file=sys.stderr)
        return 2
    console = Console()
    if not console.is_terminal:
        console = Console(width=100)
    console.print(table(costs))
    return 0


if __name__ == "__main__":
    sys.exit(main())
