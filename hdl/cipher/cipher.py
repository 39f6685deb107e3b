# SPDX-License-Identifier: Apache-2.0
"""The cipher: AES-GCM on spans of TLS records in any order, for receive and for transmit.

    spans --------+                                        +-> X rows -> verdicts
                  +-> prep -> issue -> AES-CTR, GHASH -> fold
    tx_spans -----+    |                |      |           +-> tags -> tx_outcomes, tx_tags
                     keys       rings --+      +-> shadow ring, text ring

A span's share in its record's GHASH is weighted to the record's end, so segments are independent:
see `datapath`, `ghash`, `tail_weight`, `verdict` and `tx_tags` for one piece each of

    X = A*H^(n+2) + sum C_i*H^(n-i+2) + L*H + E(K, J0) + tag,    i = 1 .. n

which is 0 for an authentic record; without the last term it is the tag to be sent.
"""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from ..abi.config import Config
from ..common.fifo import StreamFIFO
from ..common.layouts import Layouts
from ..common.tx_layouts import TxLayouts
from .arbiter import SpanArbiter
from .checksum_delta import ChecksumDelta
from .datapath import Datapath
from .inner_type import InnerTypeTracker
from .issue import Issue, SharedIssue
from .key_store import KeyStore
from .layouts import CipherLayouts
from .prepare import Prep
from .tail_weight import SharedTailWeight, TailWeight
from .tx_tags import TxTags
from .verdict import Verdicts

JOB_DEPTH = 3
# With transmit: of each direction in `Prep` and in its queue, so that the queue takes them all.
JOBS = 6
# More spans than the data path can hold of one slot each: 15 or 29 clocks of AES, GHASH, margin.
SPANS_PER_ROUND_REGISTER = 32


class Cipher(wiring.Component):
    """Spans in; text into the rings; a verdict for each packet's last span, in order.

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

    With transmit the directions take turns slot by slot (`SharedIssue`), and a direction's host
    that takes nothing holds up that direction alone. Key tokens wait for the spans of their own
    direction only; while one is executed, no span of either is taken.
    tx_spans: see `TxLayouts.span`. tx_outcomes, tx_tags: see `TxTags`; a verdict comes after its
    frame's last write to the text ring and behind its last tag.
    tx_ring_addr -> tx_ring_data: the host's frames, as at cipher_addr.
    tx_text_en, tx_text_addr, tx_text_data, tx_text_mask: ciphertext into the text ring.
    over_half, tx_over_half: the ring of that direction is, and its slots come first.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        layouts = Layouts(config)
        super().__init__(
            self._transmit_ports()
            | {
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

    def _transmit_ports(self) -> dict[str, wiring.Member]:
        if not self.config.tx_flows:
            return {}
        layouts = TxLayouts(self.config)
        return {
            "tx_spans": In(stream.Signature(layouts.span)),
            "tx_outcomes": Out(stream.Signature(layouts.outcome)),
            "tx_tags": Out(stream.Signature(128)),
            "tx_ring_addr": Out(layouts.byte_bits),
            "tx_ring_data": In(128),
            "tx_text_en": Out(1),
            "tx_text_addr": Out(layouts.byte_bits),
            "tx_text_data": Out(128),
            "tx_text_mask": Out(16),
            "over_half": In(1),
            "tx_over_half": In(1),
        }

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, own = self.config, CipherLayouts(self.config)
        flying = SPANS_PER_ROUND_REGISTER * config.aes_round_registers
        under_way_limit = flying + 16  # with prep, the job queue and the stages behind
        m.submodules.keys = keys = KeyStore(config)
        m.submodules.prep = prep = Prep(config)
        transmit = config.tx_flows > 0
        jobs = StreamFIFO(own.rx_job, JOBS) if transmit else StreamFIFO(own.job, JOB_DEPTH)
        m.submodules.jobs = jobs
        m.submodules.issue = issue = (SharedIssue if transmit else Issue)(config)
        m.submodules.retires = retires = StreamFIFO(own.retire, flying)
        m.submodules.datapath = datapath = Datapath(config)
        m.submodules.inner = inner = InnerTypeTracker(datapath.sum_delay)
        # A sum's span is still in `retires`; this queue holds as many and cannot overflow.
        m.submodules.sums = sums = StreamFIFO(own.sum, flying + 2)
        m.submodules.tail_weight = tail_weight = (SharedTailWeight if transmit else TailWeight)(
            config
        )
        m.submodules.back = back = Verdicts(config)

        if not transmit:
            wiring.connect(m, prep.jobs, jobs.i)
        wiring.connect(m, jobs.o, issue.jobs)
        wiring.connect(m, issue.retires, retires.i)
        wiring.connect(m, retires.o, tail_weight.retires)
        wiring.connect(m, sums.o, tail_weight.sums)
        wiring.connect(m, tail_weight.contributions, back.contributions)
        wiring.connect(m, back.verdicts, wiring.flipped(self.verdicts))

        under_way = Signal(ceil_log2(under_way_limit + 1))
        drained = (under_way == 0) & ~back.key_pending
        if transmit:
            of_tx = prep.spans.payload.tx
            m.d.sync += under_way.eq(under_way + (prep.accepted & ~of_tx) - back.retired)
            m.d.comb += back.key_done.eq(keys.done & ~of_tx)
            arbiter = self._transmit(m, prep, keys, jobs, issue, datapath, tail_weight, flying)
            waiting = Signal(range(JOBS + 1))
            m.d.sync += waiting.eq(
                waiting + (prep.accepted & ~of_tx) - (issue.jobs.valid & issue.jobs.ready)
            )
            m.d.comb += [
                arbiter.rx_open.eq((under_way < flying) & (waiting < JOBS)),
                arbiter.rx_drained.eq(drained),
                prep.drained.eq(1),  # the arbiter has seen to it
                self.shadow_en.eq(datapath.text_valid & ~datapath.text_tx),
                inner.last.eq(datapath.text_last & ~datapath.text_tx),
                sums.i.valid.eq(datapath.sum_valid),
            ]
        else:
            wiring.connect(m, wiring.flipped(self.spans), prep.spans)
            m.d.sync += under_way.eq(under_way + prep.accepted - back.retired)
            m.d.comb += [
                prep.drained.eq(drained),
                back.key_done.eq(keys.done),
                self.shadow_en.eq(datapath.text_valid),
                inner.last.eq(datapath.text_last),
                sums.i.valid.eq(datapath.sum_valid),
            ]
        m.d.comb += [
            keys.start.eq(prep.key_start),
            keys.token.eq(prep.spans.payload),
            prep.key_done.eq(keys.done),
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
            self.shadow_addr.eq(datapath.text_address),
            self.shadow_data.eq(datapath.text_data),
            self.shadow_mask.eq(datapath.text_mask),
            inner.valid.eq(self.shadow_en),
            inner.data.eq(datapath.text_data),
            inner.block.eq(datapath.text_block),
            sums.i.payload.value.eq(datapath.sum),
            sums.i.payload.inner.eq(inner.inner),
        ]
        return m

    def _transmit(
        self,
        m: Module,
        prep: Prep,
        keys: KeyStore,
        rx_jobs: StreamFIFO,
        issue: SharedIssue,
        datapath: Datapath,
        tail_weight: SharedTailWeight,
        flying: int,
    ) -> SpanArbiter:
        """What transmit has of its own: the way in, deltas, queues and tags."""
        config, own, layouts = self.config, CipherLayouts(self.config), TxLayouts(self.config)
        m.submodules.arbiter = arbiter = SpanArbiter(config)
        m.submodules.tx_jobs = jobs = StreamFIFO(own.tx_job, JOBS)
        m.submodules.tx_retires = retires = StreamFIFO(own.tx_retire, flying)
        m.submodules.tx_sums = sums = StreamFIFO(128, flying + 2)
        m.submodules.tx_delta = delta = ChecksumDelta(config)
        m.submodules.tx_deltas = deltas = StreamFIFO(layouts.delta, flying + 2)
        m.submodules.tx_back = back = TxTags(config)
        wiring.connect(m, wiring.flipped(self.spans), arbiter.rx)
        wiring.connect(m, wiring.flipped(self.tx_spans), arbiter.tx)
        wiring.connect(m, arbiter.spans, prep.spans)
        wiring.connect(m, jobs.o, issue.tx_jobs)
        wiring.connect(m, issue.tx_retires, retires.i)
        wiring.connect(m, retires.o, tail_weight.tx_retires)
        wiring.connect(m, sums.o, tail_weight.tx_sums)
        wiring.connect(m, deltas.o, tail_weight.tx_deltas)
        wiring.connect(m, tail_weight.tx_contributions, back.contributions)
        wiring.connect(m, back.outcomes, wiring.flipped(self.tx_outcomes))
        wiring.connect(m, back.tags, wiring.flipped(self.tx_tags))

        job, retire = prep.jobs.payload, jobs.i.payload.retire
        own_fields = job.transmit.shape().members
        m.d.comb += [
            rx_jobs.i.valid.eq(prep.jobs.valid & ~job.issue.tx),
            rx_jobs.i.payload.issue.eq(job.issue),
            rx_jobs.i.payload.retire.eq(job.retire),
            jobs.i.valid.eq(prep.jobs.valid & job.issue.tx),
            jobs.i.payload.issue.eq(job.issue),
            *(
                retire[name].eq((job.transmit if name in own_fields else job.retire)[name])
                for name in own.tx_retire.members
            ),
            prep.jobs.ready.eq(Mux(job.issue.tx, jobs.i.ready, rx_jobs.i.ready)),
        ]

        token, text = prep.spans.payload, datapath.text_valid & datapath.text_tx
        under_way, waiting = Signal(range(flying + 1)), Signal(range(JOBS + 1))
        accepted = prep.accepted & token.tx
        m.d.sync += [
            under_way.eq(under_way + accepted - back.retired),
            waiting.eq(waiting + accepted - (issue.tx_jobs.valid & issue.tx_jobs.ready)),
        ]
        m.d.comb += [
            arbiter.tx_open.eq((under_way < flying) & (waiting < JOBS)),
            issue.over_half.eq(self.over_half),
            issue.tx_over_half.eq(self.tx_over_half),
            arbiter.tx_drained.eq((under_way == 0) & ~back.key_pending),
            back.key_done.eq(keys.done & token.tx),
            self.tx_ring_addr.eq(datapath.ring_address),
            datapath.tx_ring_data.eq(self.tx_ring_data),
            self.tx_text_en.eq(text),
            self.tx_text_addr.eq(datapath.text_address),
            self.tx_text_data.eq(datapath.text_data),
            self.tx_text_mask.eq(datapath.text_mask),
            delta.text_valid.eq(text),
            delta.tag_valid.eq(datapath.tag_valid & datapath.text_tx),
            delta.last.eq(datapath.text_last),
            delta.odd.eq(datapath.text_address[0]),
            delta.mask.eq(datapath.text_mask),
            delta.data.eq(datapath.text_data),
            delta.received.eq(datapath.text_received),
            deltas.i.valid.eq(delta.done),
            deltas.i.payload.eq(delta.delta),
            sums.i.valid.eq(datapath.tx_sum_valid),
            sums.i.payload.eq(datapath.tx_sum),
        ]
        return arbiter
