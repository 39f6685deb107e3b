# SPDX-License-Identifier: Apache-2.0
"""The cipher: decrypts and authenticates spans of TLS records in any order.

    spans -> prep -> issue -> AES-CTR, GHASH -> fold -> X rows -> verdicts
              |                  |      |
              keys          ring -+      +-> shadow ring

A span's share in its record's GHASH is weighted to the record's end, so segments are independent:
see `datapath`, `ghash`, `fold` and `verdict` for one piece each of

    X = A*H^(n+2) + sum C_i*H^(n-i+2) + L*H + E(K, J0) + tag,    i = 1 .. n
"""

from amaranth.hdl import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from .cipher_issue import Issue
from .cipher_layouts import CipherLayouts
from .cipher_prep import Prep
from .datapath import Datapath
from .fifo import StreamFIFO
from .fold import Fold
from .inner_type import InnerTypeTracker
from .key_store import KeyStore
from .layouts import Layouts
from .verdict import Verdicts

JOB_DEPTH = 3
# More spans than the data path can hold of one slot each: 15 or 29 clocks of AES, GHASH, margin.
SPANS_PER_ROUND_REGISTER = 32


class Cipher(wiring.Component):
    """Spans in; plaintext into the shadow ring; a verdict for each packet's last span, in order.

    One slot (16-byte block) a clock, back to back across spans, records, packets and flows; a span
    takes as many slots as text blocks it touches, one more if it has tag bytes, and at least 3
    clocks (4 with the record's first byte). No backpressure inside AES and GHASH: a span is issued
    when its result has a place. A packet's verdict comes after its last write to the shadow ring.

    spans: see `Layouts.span`. Key tokens wait until all spans before them are through, take or
    clear the key, hold `spans` meanwhile and give an empty verdict when that is done.
    verdicts: see `Layouts.verdict` and `Verdicts`.
    cipher_addr -> cipher_data: ring, 16 bytes at any byte address, latency 2.
    shadow_en, shadow_addr, shadow_data, shadow_mask: byte i goes to shadow_addr + i if mask[i].
    stage_addr -> stage_data: staging memory, latency 1; stage_clear: zero the word at stage_addr.
    """

    def __init__(self, config):
        self.config = config
        layouts = Layouts(config)
        super().__init__(
            {
                "spans": In(stream.Signature(layouts.span)),
                "verdicts": Out(stream.Signature(layouts.verdict)),
                "cipher_addr": Out(layouts.byte_bits),
                "cipher_data": In(128),
                "shadow_en": Out(1),
                "shadow_addr": Out(layouts.byte_bits),
                "shadow_data": Out(128),
                "shadow_mask": Out(16),
                "stage_addr": Out(6),
                "stage_data": In(32),
                "stage_clear": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config, own = self.config, CipherLayouts(self.config)
        flying = SPANS_PER_ROUND_REGISTER * config.aes_round_registers
        under_way_limit = flying + 16  # with prep, the job queue and the stages behind
        m.submodules.keys = keys = KeyStore(config)
        m.submodules.prep = prep = Prep(config)
        m.submodules.jobs = jobs = StreamFIFO(own.job, JOB_DEPTH)
        m.submodules.issue = issue = Issue(config)
        m.submodules.retires = retires = StreamFIFO(own.retire, flying)
        m.submodules.datapath = datapath = Datapath(config)
        m.submodules.inner = inner = InnerTypeTracker(datapath.sum_delay)
        # A sum's span is still in `retires`; this queue holds as many and cannot overflow.
        m.submodules.sums = sums = StreamFIFO(own.sum, flying + 2)
        m.submodules.fold = fold = Fold(config)
        m.submodules.back = back = Verdicts(config)

        wiring.connect(m, wiring.flipped(self.spans), prep.spans)
        wiring.connect(m, prep.jobs, jobs.i)
        wiring.connect(m, jobs.o, issue.jobs)
        wiring.connect(m, issue.retires, retires.i)
        wiring.connect(m, retires.o, fold.retires)
        wiring.connect(m, sums.o, fold.sums)
        wiring.connect(m, fold.contributions, back.contributions)
        wiring.connect(m, back.verdicts, wiring.flipped(self.verdicts))

        under_way = Signal(ceil_log2(under_way_limit + 1))
        m.d.sync += under_way.eq(under_way + prep.accepted - back.retired)
        m.d.comb += [
            prep.drained.eq((under_way == 0) & ~back.key_pending),
            keys.start.eq(prep.key_start),
            keys.token.eq(self.spans.payload),
            prep.key_done.eq(keys.done),
            back.key_done.eq(keys.done),
            keys.row_address.eq(prep.row_address),
            prep.row.eq(keys.row),
            keys.power_address.eq(prep.power_address),
            prep.power.eq(keys.power),
            self.stage_addr.eq(keys.stage_addr),
            keys.stage_data.eq(self.stage_data),
            self.stage_clear.eq(keys.stage_clear),
        ]

        m.d.comb += [
            datapath.slot_valid.eq(issue.slot_valid),
            datapath.cipher.eq(issue.cipher),
            datapath.rest.eq(issue.rest),
            self.cipher_addr.eq(datapath.ring_address),
            datapath.ring_data.eq(self.cipher_data),
            keys.weight_address.eq(datapath.power_address),
            datapath.power_data.eq(keys.weight),
            self.shadow_en.eq(datapath.text_valid),
            self.shadow_addr.eq(datapath.text_address),
            self.shadow_data.eq(datapath.text_data),
            self.shadow_mask.eq(datapath.text_mask),
            inner.valid.eq(datapath.text_valid),
            inner.data.eq(datapath.text_data),
            inner.block.eq(datapath.text_block),
            inner.last.eq(datapath.text_last),
            sums.i.valid.eq(datapath.sum_valid),
            sums.i.payload.value.eq(datapath.sum),
            sums.i.payload.inner.eq(inner.inner),
        ]
        return m
