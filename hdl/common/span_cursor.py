# SPDX-License-Identifier: Apache-2.0
"""The spans of a frame that leaves, beside its words."""

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import stream


class SpanCursor:
    """Goes from span to span of a frame while its words leave, in the module `m` of a reader.

    Spans are offsets in the frame, in order, and lie so far apart that at most one touches a word.
    Those of a frame that has no use for them are dropped.

    spans: stream of the spans. index: of the word that is next. left: spans of the frame that have
    not been taken.
    """

    def __init__(self, m: Module, spans: stream.Interface, index: Value, name: str) -> None:
        self._m, self._spans, self._index = m, spans, index
        self.left = Signal(10, name=name)

    def there(self, used: Value) -> Value:
        """Whether the word may leave; `used`: its frame has use for spans."""
        return ~used | (self.left == 0) | self._spans.valid

    def follow(self, used: Value, take: Value) -> Signal:
        """`take`: the word leaves, and with it the span that ends in it. Spans left afterwards."""
        m, spans, index = self._m, self._spans, self._index
        last, end = spans.payload.end[4:], spans.payload.end[:4]
        span_ends = (last <= index) | ((last == index + 1) & (end == 0))
        m.d.comb += spans.ready.eq((self.left != 0) & Mux(used, take & span_ends, 1))
        afterwards = Signal.like(self.left, name_suffix="_left")
        m.d.comb += afterwards.eq(self.left - (spans.valid & spans.ready))
        m.d.sync += self.left.eq(afterwards)
        return afterwards
