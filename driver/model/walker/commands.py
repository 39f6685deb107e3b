# SPDX-License-Identifier: Apache-2.0
"""What comes between packets and changes the walker's row: commands, and news of a tag."""

from sealane.hdl.abi.commands import Option
from sealane.hdl.abi.config import Config
from sealane.hdl.abi.events import EventKind
from sealane.hdl.abi.meta import ProvenBy

from . import tracking as walker_proven
from .core import Core
from .coverage import Coverage
from .row import Row, TrackerState
from .span import Probe, WalkerEvent


def answer(
    config: Config, row: Row, seq: int, number: int, refused: bool
) -> tuple[WalkerEvent | None, int]:
    """RESYNC_ANSWER: the event to report and how many records were evicted."""
    if row.state is not TrackerState.CONFIRMING or seq != row.candidate_seq:
        return None, 0
    if refused:
        row.state = TrackerState.SEARCHING
        row.cand_part_header = b""
        return None, 0
    row.clear_barrier(seq)
    core = Core(config, row, seq)
    event = walker_proven.adopt(core, number, ProvenBy.SOFTWARE)
    return event, core.out.evicted


def hint(row: Row, seq: int, number: int) -> WalkerEvent | None:
    """RESYNC_HINT: arm a flow that is out of sync for a record that software names.

    Software has read every record in front of it, so none of them holds marks back any more. A
    one-bit flow goes on from there: its walk has passed records that were not verified.
    """
    suspected = row.barrier_end is not None
    row.clear_barrier(seq)
    if row.state in (TrackerState.START, TrackerState.TRACKING):
        coverage = Coverage(row)
        settled = coverage.ends(seq) or (suspected and row.barrier_end is None)
        if row.options & Option.ONE_BIT and settled:
            row.arm(seq, number)
        coverage.close_ended(seq)
        return None
    lost_at = row.lost_at
    row.arm(seq, number)
    return WalkerEvent(
        EventKind.RESUMED,
        lost_at=lost_at,
        candidate_seq=seq,
        resumed_at=seq,
        proven_by=ProvenBy.SOFTWARE,
        seq=seq,
        number=number,
    )


def rekey(config: Config, row: Row, generation: int, epoch: int, seq: int, base: int) -> None:
    """REKEY: the record that counted `base` and starts at `seq` is number 0 under a new key.

    The walk went on behind the park, because headers need no key: it is only counted anew. What
    is open was fed under the old key and is closed.
    """
    row.generation, row.epoch = generation, epoch
    row.probing = False
    row.marked_number = 0
    one_bit = row.options & Option.ONE_BIT and row.barrier_end is not None
    row.clear_barrier(seq)
    if row.proven and row.number >= base and not one_bit:
        row.number -= base
        if any(
            slot and row.withholds(config, slot.content_type, slot.length) for slot in row.slots
        ):
            row.barrier_end = row.next_record_seq
        row.close_below()
        row.close_all()
    elif row.proven:
        row.arm(seq, 0)


def tag_proof(config: Config, row: Row, probe: Probe) -> tuple[WalkerEvent | None, int]:
    """A candidate record authenticated under its guessed number: event, records evicted."""
    if (
        not row.proven
        or row.state is not TrackerState.CONFIRMING
        or probe.candidate_seq != row.candidate_seq
    ):
        return None, 0
    core = Core(config, row, row.cand_high)
    event = walker_proven.adopt(core, probe.number, ProvenBy.TAG)
    return event, core.out.evicted


def desync(row: Row) -> None:
    """A record did not authenticate: nothing behind it is proven."""
    row.close_all()
    row.proven = row.probing = False
    row.part_header = b""
    if row.state in (TrackerState.START, TrackerState.TRACKING):
        row.lost_at = row.next_record_seq
        row.state = TrackerState.SEARCHING
        row.scanned = 0
        row.cand_part_header = b""
        row.cand_high = row.high
