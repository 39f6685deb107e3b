# SPDX-License-Identifier: Apache-2.0
"""Resync in the three forms of Linux's `Documentation/networking/tls-offload.rst`.

Driver request: the device names a candidate header; it is confirmed when the in-order parse finds
a header exactly there and refused when the parse has passed it. Next-record hint: after a row of
fully encrypted records the stack tells where the next record starts, at ever longer intervals.
Asynchronous: a request opens over a range, headers framed meanwhile are logged, and the end of
the request names the candidate.
"""

from __future__ import annotations

from collections import deque
from enum import Enum

from ...net import seq
from .events import ResyncAnswer, ResyncHint

ASYNC_LOGMAX = 13  # TLS_DEVICE_RESYNC_ASYNC_LOGMAX
NH_START_IVAL = 2  # TLS_DEVICE_RESYNC_NH_START_IVAL
NH_MAX_IVAL = 128  # TLS_DEVICE_RESYNC_NH_MAX_IVAL
_ASYNC_RECORDS = 0xFFFF  # records after which an open request has gone wrong

# Headers remembered for requests that arrive after their candidate was parsed: more than twice
# the records that fit into the longest frame.
_HISTORY = 1024


class ResyncMode(Enum):
    """TLS_OFFLOAD_SYNC_TYPE_*: who begins a resync."""

    DRIVER_REQ = "driver request"
    CORE_NEXT_HINT = "next-record hint"
    DRIVER_REQ_ASYNC = "asynchronous driver request"


class Resync:
    """Resync of one receive direction; sequence numbers are those of TCP, modulo 2^32.

    `stuck` is set while only the stack can get the device going again; then a flow in
    `DRIVER_REQ` is given hints too.
    """

    def __init__(self, mode: ResyncMode) -> None:
        self.mode = mode
        self.stuck = False
        self._candidate_seq: int | None = None
        self._history: deque[tuple[int, int]] = deque(maxlen=_HISTORY)
        self._failed = 0
        self._target = NH_START_IVAL
        self._hint_due = False
        self._range: tuple[int, int] | None = None  # an open asynchronous request
        self._log: list[tuple[int, int]] = []
        self._seen = 0

    def reset(self) -> None:
        """Forgets everything: the device begins anew at a given position."""
        self._candidate_seq = None
        self.stuck = False
        self.renumber()

    def renumber(self) -> None:
        """Records count anew. Numbers of the old count are forgotten; a candidate stays open,
        because it lies behind every header that was parsed."""
        self._history.clear()
        self.async_cancel()
        self._hint_due = False
        self._failed, self._target = 0, NH_START_IVAL

    def request(self, candidate_seq: int, parsed: int) -> list[ResyncAnswer]:
        """The device asks for the record at `candidate_seq`; headers in front of `parsed` are known."""
        self._candidate_seq = candidate_seq
        if seq.distance(candidate_seq, parsed) >= 0:
            return []
        return [self._answer(dict(self._history).get(candidate_seq))]

    def header(
        self, start: int, number: int, end: int, received: int
    ) -> list[ResyncAnswer | ResyncHint]:
        """A header was framed at `start`, its record ends at `end`; `received` bounds the stream.

        The candidate is settled as soon as no header can lie on it any more.
        """
        out: list[ResyncAnswer | ResyncHint] = []
        self._history.append((start, number))
        if self._candidate_seq is not None and seq.distance(self._candidate_seq, end) < 0:
            out.append(self._answer(number if self._candidate_seq == start else None))
        self._log_header(start, number)
        if self._hint_due and seq.distance(received, end) <= 0:
            self._hint_due = False
            out.append(ResyncHint(end, number + 1))
        return out

    def record(self, encrypted: bool, end: int, number: int, received: int) -> list[ResyncHint]:
        """Record `number` ended at `end`; `encrypted`: no byte of it was marked."""
        if not encrypted:
            self._failed, self._target = 0, NH_START_IVAL
            self._hint_due = self.stuck = False
            return []
        if self.mode is not ResyncMode.CORE_NEXT_HINT and not self.stuck:
            return []
        self._failed += 1
        if self._failed < self._target:
            return []
        self._target += min(self._target, NH_MAX_IVAL)
        if seq.distance(received, end) > 0:
            # The next header is already here, so a hint to it would come too late for the device;
            # the first record that is not here to its end names the one behind it.
            self._hint_due = True
            return []
        self._hint_due = False
        return [ResyncHint(end, number + 1)]

    def refuse(self) -> list[ResyncAnswer]:
        """The stream has ended for software: a candidate still open is no record."""
        return [] if self._candidate_seq is None else [self._answer(None)]

    def async_start(self, seq: int, length: int) -> None:
        """tls_offload_rx_resync_async_request_start: log headers in [seq, seq + length]."""
        self._range = (seq, length)
        self._log.clear()
        self._seen = 0

    def async_end(self, candidate_seq: int, parsed: int) -> list[ResyncAnswer]:
        """tls_offload_rx_resync_async_request_end: the device's candidate is `candidate_seq`.

        A candidate that was not logged is settled by the parse if it still lies ahead.
        """
        if self._range is None:
            return []
        logged = dict(self._log)
        self.async_cancel()
        self._candidate_seq = candidate_seq
        if seq.distance(candidate_seq, parsed) >= 0:
            return []
        return [self._answer(logged.get(candidate_seq))]

    def async_cancel(self) -> None:
        """tls_offload_rx_resync_async_request_cancel."""
        self._range = None
        self._log.clear()

    @property
    def async_open(self) -> bool:
        """Whether an asynchronous request is open."""
        return self._range is not None

    def _log_header(self, start: int, number: int) -> None:
        if self._range is None:
            return
        first, length = self._range
        at = seq.distance(start, first)
        if at < 0:
            return
        if at <= length and len(self._log) < ASYNC_LOGMAX:
            self._log.append((start, number))
        self._seen += 1
        if self._seen > _ASYNC_RECORDS:
            self.async_cancel()

    def _answer(self, number: int | None) -> ResyncAnswer:
        candidate_seq, self._candidate_seq = self._candidate_seq, None
        assert candidate_seq is not None
        return ResyncAnswer(candidate_seq, number)
