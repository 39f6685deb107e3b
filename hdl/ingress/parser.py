# SPDX-License-Identifier: Apache-2.0
"""Ethernet, VLAN, IPv4, IPv6 and TCP headers and both checksums, a word a clock.

The meaning, to the bit, is that of the model in `driver/net/parser.py`. The stages, a clock each:

    align   bytes behind the Ethernet header and its tags are shifted to word boundaries, so
            that IP begins at byte 0 of word 0; every later offset is a multiple of 4
    walk    IP header fields of word 0; IPv6 extension headers, at most two a word
    pick    addresses and TCP fields are caught; bytes of no concern to a checksum are masked out
    add     eight 16-bit lanes to two sums; whether all lengths fit is judged
    sum     the two sums are accumulated
    fold    end-around carries (RFC 1071), pseudo header's length and protocol
    judge   the description leaves

A frame's last aligned word comes one clock behind its last word, in the clock in which the next
frame's first word may come: that one completes no aligned word, so frames need no gap.
"""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib.wiring import Component, In, Out
from amaranth.utils import bits_for

from ..abi.config import WORD_BYTES, Config
from ..common.layouts import Layouts, Word

TPIDS = (0x8100, 0x88A8, 0x9100)  # IEEE 802.1Q, 802.1ad, and what preceded 802.1ad
ETHERTYPE_IPV4, ETHERTYPE_IPV6 = 0x0800, 0x86DD
# IANA protocol numbers
HOP_BY_HOP, TCP, ROUTING, FRAGMENT, DESTINATION_OPTIONS = 0, 6, 43, 44, 60
IPV4_HEADER_BYTES = 20

LATENCY = 8  # clocks from a frame's last word to `desc_valid`


def number(data: Value, first: int, count: int) -> Value:
    """`count` bytes of a word from byte `first` on, as an integer in network byte order."""
    return Cat(data[8 * i : 8 * i + 8] for i in reversed(range(first, first + count)))


class Parser(Component):
    """Describes each frame that passes by. No backpressure: takes a word in every clock.

    word_en, word: a word of a frame. ring_word: where the ring keeps it.
    desc_valid, desc: for one clock, `LATENCY` clocks after the frame's last word; for an oversize
    frame after the word that made it so, and then never again for this frame.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        layouts = Layouts(config)
        super().__init__(
            {
                "word_en": In(1),
                "word": In(Word),
                "ring_word": In(layouts.word_bits),
                "desc_valid": Out(1),
                "desc": Out(layouts.packet_desc),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, layouts = self._config, Layouts(self._config)
        index_bits = bits_for(config.max_frame // WORD_BYTES + 2)
        length_bits = 14

        # ---- align
        seen = Signal(2)  # words of this frame so far, up to 3
        count = Signal(15)  # bytes so far; max_frame once there are more
        length = Signal(15)
        too_long = Signal()
        over = Signal()
        flush = Signal()  # the word before was a frame's last
        start = Signal(layouts.word_bits)
        before = Signal(128)
        tagged, tagged_twice, ipv4, ipv6 = Signal(), Signal(), Signal(), Signal()

        a_en, a_first, a_over = Signal(), Signal(), Signal()
        a_data = Signal(128)
        word = self.word.data
        m.d.comb += [
            length.eq(Mux(seen == 0, 0, count) + self.word.bytes),
            too_long.eq(length > config.max_frame),
            a_over.eq(self.word_en & too_long & ~over),
            a_first.eq(self.word_en & (seen == Mux(tagged, 2, 1))),
            a_en.eq(flush | a_first | (self.word_en & ((seen == 3) | (seen == 2)))),
        ]
        with m.If(~tagged):
            m.d.comb += a_data.eq(Cat(before[14 * 8 :], word[: 14 * 8]))
        with m.Elif(tagged_twice):
            m.d.comb += a_data.eq(Cat(before[6 * 8 :], word[: 6 * 8]))
        with m.Else():
            m.d.comb += a_data.eq(Cat(before[2 * 8 :], word[: 2 * 8]))

        def is_tpid(ethertype: Value) -> Value:
            return Cat(ethertype == tpid for tpid in TPIDS).any()

        m.d.sync += flush.eq(self.word_en & self.word.last & ~too_long)
        with m.If(self.word_en):
            m.d.sync += [
                before.eq(word),
                seen.eq(Mux(self.word.last, 0, Mux(seen == 3, 3, seen + 1))),
                count.eq(Mux(too_long, config.max_frame, length)),
                over.eq(too_long & ~self.word.last),
            ]
            ethertype = Signal(16)
            with m.If(seen == 0):
                m.d.comb += ethertype.eq(number(word, 12, 2))
                m.d.sync += [start.eq(self.ring_word), tagged.eq(is_tpid(ethertype))]
            with m.Else():
                second = number(word, 0, 2)
                m.d.comb += ethertype.eq(Mux(is_tpid(second), number(word, 4, 2), second))
            with m.If((seen == 1) & tagged):
                m.d.sync += tagged_twice.eq(is_tpid(number(word, 0, 2)))
            with m.If((seen == 0) | ((seen == 1) & tagged)):
                m.d.sync += [
                    ipv4.eq(ethertype == ETHERTYPE_IPV4),
                    ipv6.eq(ethertype == ETHERTYPE_IPV6),
                ]

        # ---- walk
        w_en, w_first, w_end, w_over = Signal(), Signal(), Signal(), Signal()
        w_ipv4, w_ipv6 = Signal(), Signal()
        w_data, w_tags = Signal(128), Signal(2)
        w_length, w_start = Signal(length_bits), Signal(layouts.word_bits)
        m.d.sync += [
            w_en.eq(a_en),
            w_first.eq(a_first),
            w_end.eq(flush),
            w_over.eq(a_over),
            w_data.eq(a_data),
            w_tags.eq(tagged + (tagged & tagged_twice)),
            w_ipv4.eq(ipv4),
            w_ipv6.eq(ipv6),
            w_length.eq(count),
            w_start.eq(start),
        ]
        # What is written here describes the packet up to the word that is in the pick stage.
        index = Signal(index_bits)
        w_index = Signal(index_bits)
        is_ipv6, valid = Signal(), Signal()
        found = Signal()  # TCP begins at byte `segment` of the packet
        segment = Signal(index_bits + 4)
        end = Signal(17)  # of the packet, by its own length field
        refused = Signal()
        said = Signal()  # the header that ends at byte `said_end` names TCP, or may hide it
        said_end = Signal(index_bits + 5)
        next_header, skip = Signal(8), Signal(8)  # skip: halves of words of an extension header
        m.d.comb += w_index.eq(Mux(w_first, 0, index + 1))

        def may_be_tcp(protocol: Value) -> Value:
            return Cat(
                protocol == header
                for header in (TCP, HOP_BY_HOP, ROUTING, FRAGMENT, DESTINATION_OPTIONS)
            ).any()

        state = (found, segment, refused, next_header, skip)
        for half in range(2):
            header = w_data[64 * half : 64 * half + 64]
            found_0, segment_0, refused_0, next_0, skip_0 = state
            here, is_tcp, known = Signal(), Signal(), Signal()
            m.d.comb += [
                here.eq(~found_0 & ~refused_0 & (skip_0 == 0)),
                is_tcp.eq(next_0 == TCP),
                known.eq(
                    (next_0 == HOP_BY_HOP)
                    | (next_0 == DESTINATION_OPTIONS)
                    # Segments left: the packet is not at its destination yet.
                    | ((next_0 == ROUTING) & (header[24:32] == 0))
                ),
            ]
            after = tuple(Signal.like(s, name=f"{s.name}_{half}") for s in state)
            found_1, segment_1, refused_1, next_1, skip_1 = after
            m.d.comb += [new.eq(old) for new, old in zip(after, state, strict=True)]
            if half == 0:  # of word 2 it is the rest of the destination address
                active = w_index > 2
            else:
                active = w_index >= 2
            hides = Signal()  # what follows is, or may lead to, a part of a segment
            with m.If(active & here):
                m.d.comb += hides.eq((next_0 == FRAGMENT) | (next_0 == ROUTING) & ~known)
                with m.If(w_en & is_ipv6 & (is_tcp | (hides & may_be_tcp(header[:8])))):
                    m.d.sync += [said.eq(1), said_end.eq(Cat(Const(8 * half, 4), w_index) + 8)]
                with m.If(is_tcp):
                    m.d.comb += [found_1.eq(1), segment_1.eq(Cat(Const(8 * half, 4), w_index))]
                with m.Else():
                    m.d.comb += [
                        refused_1.eq(~known),
                        next_1.eq(header[:8]),
                        skip_1.eq(header[8:16]),
                    ]
            with m.Elif(active):
                m.d.comb += skip_1.eq(skip_0 - 1)
            state = after

        with m.If(w_en):
            m.d.sync += index.eq(w_index)
            with m.If(w_first):
                version, ihl = w_data[4:8], w_data[0:4]
                fragment = number(w_data, 6, 2)[:14]  # more-fragments flag and offset
                ipv4_ok = (version == 4) & (ihl >= 5) & (fragment == 0) & (w_data[72:80] == TCP)
                m.d.sync += [
                    is_ipv6.eq(w_ipv6),
                    valid.eq(Mux(w_ipv6, version == 6, w_ipv4 & ipv4_ok)),
                    end.eq(Mux(w_ipv6, number(w_data, 4, 2) + 40, number(w_data, 2, 2))),
                    found.eq(~w_ipv6),
                    segment.eq(ihl << 2),
                    refused.eq(0),
                    said.eq(~w_ipv6 & w_ipv4 & (version == 4) & (w_data[72:80] == TCP)),
                    said_end.eq(IPV4_HEADER_BYTES),
                    next_header.eq(w_data[48:56]),
                    skip.eq(0),
                ]
            with m.Elif(is_ipv6):
                m.d.sync += [
                    old.eq(new)
                    for old, new in zip(
                        (found, segment, refused, next_header, skip), state, strict=True
                    )
                ]

        # ---- pick
        p_en, p_first, p_end, p_over = Signal(), Signal(), Signal(), Signal()
        p_data, p_tags = Signal(128), Signal(2)
        p_length, p_start = Signal(length_bits), Signal(layouts.word_bits)
        m.d.sync += [
            p_en.eq(w_en),
            p_first.eq(w_first),
            p_end.eq(w_end),
            p_over.eq(w_over),
            p_data.eq(w_data),
            p_tags.eq(w_tags),
            p_length.eq(w_length),
            p_start.eq(w_start),
        ]
        in_segment = Signal(16)  # a bit a byte
        in_header = Signal(16)
        pseudo = Signal(16)
        behind, at, until, ends = Signal(), Signal(), Signal(), Signal()
        m.d.comb += [
            behind.eq(found & (index > segment[4:])),
            at.eq(found & (index == segment[4:])),
            until.eq(index < end[4:]),
            ends.eq(index == end[4:]),
        ]
        for byte in range(WORD_BYTES):
            started = behind | (at & (segment[2:4] <= byte // 4))
            m.d.comb += [
                in_segment[byte].eq(started & (until | (ends & (end[:4] > byte)))),
                in_header[byte].eq(~started),
            ]
        # The addresses, which the pseudo header repeats (RFC 9293 section 3.1, RFC 8200 8.1).
        with m.Switch(index):
            with m.Case(0):
                m.d.comb += pseudo.eq(Mux(is_ipv6, 0xFF00, 0xF000))
            with m.Case(1):
                m.d.comb += pseudo.eq(Mux(is_ipv6, 0xFFFF, 0x000F))
            with m.Case(2):
                m.d.comb += pseudo.eq(Mux(is_ipv6, 0x00FF, 0x0000))

        src, dst = Signal(128), Signal(128)
        ports, seq, offset_flags, checksum = Signal(32), Signal(32), Signal(16), Signal(16)
        with m.If(p_en):
            with m.Switch(index):
                with m.Case(0):
                    m.d.sync += [
                        src.eq(Mux(is_ipv6, number(p_data, 8, 8) << 64, number(p_data, 12, 4))),
                        dst.eq(0),
                    ]
                with m.Case(1):
                    with m.If(is_ipv6):
                        m.d.sync += [
                            src[:64].eq(number(p_data, 0, 8)),
                            dst[64:].eq(number(p_data, 8, 8)),
                        ]
                    with m.Else():
                        m.d.sync += dst[:32].eq(number(p_data, 0, 4))
                with m.Case(2):
                    with m.If(is_ipv6):
                        m.d.sync += dst[:64].eq(number(p_data, 0, 8))
            # Rows of the TCP header (RFC 9293 section 3.1), 4 bytes each.
            for row, field in ((0, ports), (1, seq), (3, offset_flags), (4, checksum)):
                place = Signal(len(segment) - 1, name=f"row_{row}")
                m.d.comb += place.eq(segment[2:] + row)
                value = p_data.word_select(place[:2], 32)
                with m.If(found & (index == place[2:])):
                    m.d.sync += field.eq(number(value, 0, len(field) // 8))

        # ---- add
        d_en, d_first, d_end, d_over = Signal(), Signal(), Signal(), Signal()
        d_valid, d_ipv6 = Signal(), Signal()
        d_length, d_start = Signal(length_bits), Signal(layouts.word_bits)
        d_segment, d_packet_end, d_packet_at = Signal.like(segment), Signal(17), Signal(5)
        d_said, d_said_end = Signal(), Signal.like(said_end)
        d_segment_data, d_header_data = Signal(128), Signal(128)
        m.d.sync += [
            d_en.eq(p_en),
            d_first.eq(p_first),
            d_end.eq(p_end),
            d_over.eq(p_over),
            d_valid.eq(valid & found & ~refused),
            d_ipv6.eq(is_ipv6),
            d_length.eq(p_length),
            d_start.eq(p_start),
            d_segment.eq(segment),
            d_packet_end.eq(end),
            d_packet_at.eq(14 + (p_tags << 2)),
            d_said.eq(said & Mux(is_ipv6, valid, 1)),
            d_said_end.eq(said_end),
        ]
        for byte in range(WORD_BYTES):
            part = slice(8 * byte, 8 * byte + 8)
            wanted = in_segment[byte] | pseudo[byte]
            m.d.sync += [
                d_segment_data[part].eq(p_data[part] & wanted.replicate(8)),
                d_header_data[part].eq(p_data[part] & in_header[byte].replicate(8)),
            ]
        payload_at = Signal(16)
        is_tcp = Signal()
        m.d.comb += [
            payload_at.eq(d_segment + (offset_flags[12:] << 2)),
            is_tcp.eq(
                d_end
                & d_valid
                & (offset_flags[12:] >= 5)
                & (payload_at <= d_packet_end)
                & (d_packet_at + d_packet_end <= d_length)
            ),
        ]

        # ---- sum
        s_en, s_first, s_ipv6, s_done = Signal(), Signal(), Signal(), Signal()
        s_desc = Signal(layouts.packet_desc)
        s_segment_bytes = Signal(16)
        m.d.sync += [
            s_en.eq(d_en),
            s_first.eq(d_first),
            s_ipv6.eq(d_ipv6),
            s_done.eq(d_end | d_over),
            s_segment_bytes.eq(d_packet_end - d_segment),
            s_desc.eq(0),
            s_desc.ring_word.eq(d_start),
            s_desc.oversize.eq(d_over),
            s_desc.frame_bytes.eq(Mux(d_end, d_length, 0)),
            s_desc.refused_tcp.eq(
                d_end & d_said & ~is_tcp & (d_packet_at + d_said_end <= d_length)
            ),
        ]
        with m.If(is_tcp):
            m.d.sync += [
                s_desc.is_tcp.eq(1),
                s_desc.key.src.eq(src),
                s_desc.key.dst.eq(dst),
                s_desc.key.sport.eq(ports[16:]),
                s_desc.key.dport.eq(ports[:16]),
                s_desc.key.ipv6.eq(d_ipv6),
                s_desc.seq.eq(seq),
                s_desc.tcp_flags.eq(offset_flags[:8]),
                s_desc.tcp_offset.eq(d_packet_at + d_segment),
                s_desc.tcp_checksum.eq(Cat(checksum[8:], checksum[:8])),
                s_desc.payload_offset.eq(d_packet_at + payload_at),
                s_desc.payload_length.eq(d_packet_end - payload_at),
            ]
        # Lanes are added low byte first: the byte-swapped sum of swapped lanes (RFC 1071, 2.B).
        totals = []
        for what, data, bits in (("segment", d_segment_data, 30), ("header", d_header_data, 21)):
            sums = [Signal(18, name=f"{what}_sum_{i}") for i in range(2)]
            total = Signal(bits, name=f"{what}_total")
            for i, four in enumerate(sums):
                lanes = [data.word_select(4 * i + lane, 16) for lane in range(4)]
                m.d.sync += four.eq((lanes[0] + lanes[1]) + (lanes[2] + lanes[3]))
            with m.If(s_en):
                m.d.sync += total.eq(Mux(s_first, 0, total) + (sums[0] + sums[1]))
            totals.append(total)

        # ---- fold
        f_ipv6, f_done = Signal(), Signal()
        f_desc, f_segment_bytes = Signal(layouts.packet_desc), Signal(16)
        j_ipv6, j_done = Signal(), Signal()
        j_desc = Signal(layouts.packet_desc)
        j_segment, j_header = Signal(18), Signal(17)
        swapped = Cat(f_segment_bytes[8:], f_segment_bytes[:8])
        m.d.sync += [
            f_ipv6.eq(s_ipv6),
            f_done.eq(s_done),
            f_desc.eq(s_desc),
            f_segment_bytes.eq(s_segment_bytes),
            j_ipv6.eq(f_ipv6),
            j_done.eq(f_done),
            j_desc.eq(f_desc),
            j_segment.eq((totals[0][:16] + totals[0][16:]) + (swapped + (TCP << 8))),
            j_header.eq(totals[1][:16] + totals[1][16:]),
        ]

        # ---- judge. A sum with a byte that is not 0 in it folds to all ones if it is good.
        segment_sum, segment_fold = Signal(17), Signal(16)
        m.d.comb += [
            segment_sum.eq(j_segment[:16] + j_segment[16:]),
            segment_fold.eq(segment_sum[:16] + segment_sum[16]),
        ]
        segment_good = segment_sum == 0xFFFF
        header_good = (j_header[:16] + j_header[16:]) == 0xFFFF
        good = j_desc.is_tcp & segment_good & (j_ipv6 | header_good)
        m.d.comb += [
            self.desc_valid.eq(j_done),
            self.desc.eq(j_desc),
            self.desc.checksum_ok.eq(good),
            self.desc.segment_sum.eq(Mux(j_desc.is_tcp, segment_fold, 0)),
        ]
        return m
