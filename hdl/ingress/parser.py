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

from dataclasses import dataclass

from amaranth.hdl import Cat, Const, Module, Mux, Shape, Signal, Value
from amaranth.lib.data import View
from amaranth.lib.wiring import Component, In, Out
from amaranth.utils import bits_for

from ..abi.config import WORD_BYTES, Config
from ..common.layouts import Layouts, Word

TPIDS = (0x8100, 0x88A8, 0x9100)  # IEEE 802.1Q, 802.1ad, and what preceded 802.1ad
ETHERTYPE_IPV4, ETHERTYPE_IPV6 = 0x0800, 0x86DD
# IANA protocol numbers
HOP_BY_HOP, TCP, ROUTING, FRAGMENT, DESTINATION_OPTIONS = 0, 6, 43, 44, 60
IPV4_HEADER_BYTES = 20

LENGTH_BITS = 14
LATENCY = 8  # clocks from a frame's last word to `desc_valid`


def number(data: Value, first: int, count: int) -> Value:
    """`count` bytes of a word from byte `first` on, as an integer in network byte order."""
    return Cat(data[8 * i : 8 * i + 8] for i in reversed(range(first, first + count)))


def is_tpid(ethertype: Value) -> Value:
    """Whether a tag follows instead of the type."""
    return Cat(ethertype == tpid for tpid in TPIDS).any()


def may_be_tcp(protocol: Value) -> Value:
    """Whether an IPv6 header of that number is TCP's or may be in front of TCP's."""
    return Cat(
        protocol == header for header in (TCP, HOP_BY_HOP, ROUTING, FRAGMENT, DESTINATION_OPTIONS)
    ).any()


@dataclass(frozen=True)
class _Word:
    """An aligned word on its way through the stages, and what is known of its frame.

    en: a word is here. first: it is the packet's first one. end: it is the frame's last one.
    over: the frame has become too long. start: the frame's first word in the ring. length: the
    frame's bytes, with `end`. tags: in front of the packet.
    """

    en: Value
    first: Value
    end: Value
    over: Value
    start: Value
    length: Value
    data: Value = None  # None where a stage did not want it
    tags: Value = None  # the same

    def delayed(self, m: Module, stage: str, without: tuple[str, ...] = ()) -> "_Word":
        """The same one clock later, but what the stage does not want."""
        shapes = {"length": LENGTH_BITS, "tags": 2}
        registers = {}
        for name, value in vars(self).items():
            if name not in without:
                shape: Shape | int = shapes.get(name, value.shape())
                registers[name] = Signal(shape, name=f"{stage}_{name}")
                m.d.sync += registers[name].eq(value)
        return _Word(**registers)


class _Packet:
    """What the walk knows of the packet, up to the word that is in the pick stage."""

    def __init__(self, config: Config) -> None:
        index_bits = bits_for(config.max_frame // WORD_BYTES + 2)
        self.index = Signal(index_bits)  # of that word
        self.is_ipv6 = Signal()
        self.valid = Signal()  # IP is of its version, and IPv4 holds a whole segment
        self.end = Signal(17)  # of the packet, by its own length field
        self.said = Signal()  # the header that ends at byte `said_end` names TCP, or may hide it
        self.said_end = Signal(index_bits + 5)
        # From header to header.
        self.found = Signal()  # TCP begins at byte `segment` of the packet
        self.segment = Signal(index_bits + 4)
        self.refused = Signal()
        self.next_header = Signal(8)
        self.skip = Signal(8)  # halves of words of an extension header

    def walk(self) -> tuple[Signal, ...]:
        """The registers that go from header to header."""
        return self.found, self.segment, self.refused, self.next_header, self.skip


class _Fields:
    """Fields of a packet, caught in the pick stage."""

    def __init__(self) -> None:
        self.src = Signal(128)
        self.dst = Signal(128)
        self.ports = Signal(32)
        self.seq = Signal(32)
        self.offset_flags = Signal(16)
        self.checksum = Signal(16)


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
        packet, fields = _Packet(self._config), _Fields()
        aligned, ipv4, ipv6 = self._align(m)
        word = aligned.delayed(m, "w")
        self._walk(m, word, packet, ipv4, ipv6)
        word = word.delayed(m, "p")
        self._pick_addresses(m, word, packet, fields)
        self._pick_tcp(m, word, packet, fields)
        lanes = self._mask(m, word, packet)
        word, desc, segment_bytes, is_ipv6 = self._describe(m, word, packet, fields)
        totals = self._sum(m, word, lanes)
        self._judge(m, word, desc, segment_bytes, is_ipv6, totals)
        return m

    def _align(self, m: Module) -> tuple[_Word, Value, Value]:
        """Stage align, the Ethernet header and its tags: the aligned word, and whether its packet
        is IPv4 or IPv6."""
        config, layouts = self._config, Layouts(self._config)
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
        tags = tagged + (tagged & tagged_twice)
        return _Word(a_en, a_first, flush, a_over, start, count, a_data, tags), ipv4, ipv6

    def _walk(self, m: Module, word: _Word, packet: _Packet, ipv4: Value, ipv6: Value) -> None:
        """Stage walk: word 0 has the IPv4 header or that of IPv6, then it goes from one IPv6
        header to the next."""
        data = word.data
        w_ipv4, w_ipv6 = Signal(), Signal()
        m.d.sync += [w_ipv4.eq(ipv4), w_ipv6.eq(ipv6)]
        w_index = Signal.like(packet.index)
        m.d.comb += w_index.eq(Mux(word.first, 0, packet.index + 1))
        state = self._walk_headers(m, word, packet, w_index)
        with m.If(word.en):
            m.d.sync += packet.index.eq(w_index)
            with m.If(word.first):
                version, ihl = data[4:8], data[0:4]
                fragment = number(data, 6, 2)[:14]  # more-fragments flag and offset
                ipv4_ok = (version == 4) & (ihl >= 5) & (fragment == 0) & (data[72:80] == TCP)
                m.d.sync += [
                    packet.is_ipv6.eq(w_ipv6),
                    packet.valid.eq(Mux(w_ipv6, version == 6, w_ipv4 & ipv4_ok)),
                    packet.end.eq(Mux(w_ipv6, number(data, 4, 2) + 40, number(data, 2, 2))),
                    packet.found.eq(~w_ipv6),
                    packet.segment.eq(ihl << 2),
                    packet.refused.eq(0),
                    packet.said.eq(~w_ipv6 & w_ipv4 & (version == 4) & (data[72:80] == TCP)),
                    packet.said_end.eq(IPV4_HEADER_BYTES),
                    packet.next_header.eq(data[48:56]),
                    packet.skip.eq(0),
                ]
            with m.Elif(packet.is_ipv6):
                m.d.sync += [old.eq(new) for old, new in zip(packet.walk(), state, strict=True)]

    def _walk_headers(
        self, m: Module, word: _Word, packet: _Packet, w_index: Value
    ) -> tuple[Signal, ...]:
        """`_Packet.walk` behind the IPv6 headers that begin in a word, at most one in each half."""
        state = packet.walk()
        for half in range(2):
            header = word.data[64 * half : 64 * half + 64]
            place = Cat(Const(8 * half, 4), w_index)
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
                with m.If(word.en & packet.is_ipv6 & (is_tcp | (hides & may_be_tcp(header[:8])))):
                    m.d.sync += [packet.said.eq(1), packet.said_end.eq(place + 8)]
                with m.If(is_tcp):
                    m.d.comb += [found_1.eq(1), segment_1.eq(place)]
                with m.Else():
                    m.d.comb += [
                        refused_1.eq(~known),
                        next_1.eq(header[:8]),
                        skip_1.eq(header[8:16]),
                    ]
            with m.Elif(active):
                m.d.comb += skip_1.eq(skip_0 - 1)
            state = after
        return state

    def _pick_addresses(self, m: Module, word: _Word, packet: _Packet, fields: _Fields) -> None:
        """Stage pick, IP addresses of words 0 to 2."""
        is_ipv6, src, dst = packet.is_ipv6, fields.src, fields.dst
        data = word.data
        with m.If(word.en):
            with m.Switch(packet.index):
                with m.Case(0):
                    m.d.sync += [
                        src.eq(Mux(is_ipv6, number(data, 8, 8) << 64, number(data, 12, 4))),
                        dst.eq(0),
                    ]
                with m.Case(1):
                    with m.If(is_ipv6):
                        m.d.sync += [
                            src[:64].eq(number(data, 0, 8)),
                            dst[64:].eq(number(data, 8, 8)),
                        ]
                    with m.Else():
                        m.d.sync += dst[:32].eq(number(data, 0, 4))
                with m.Case(2):
                    with m.If(is_ipv6):
                        m.d.sync += dst[:64].eq(number(data, 0, 8))

    def _pick_tcp(self, m: Module, word: _Word, packet: _Packet, fields: _Fields) -> None:
        """Stage pick, rows of the TCP header (RFC 9293 section 3.1), 4 bytes each."""
        segment = packet.segment
        rows = (0, fields.ports), (1, fields.seq), (3, fields.offset_flags), (4, fields.checksum)
        with m.If(word.en):
            for row, field in rows:
                place = Signal(len(segment) - 1, name=f"row_{row}")
                m.d.comb += place.eq(segment[2:] + row)
                value = word.data.word_select(place[:2], 32)
                with m.If(packet.found & (packet.index == place[2:])):
                    m.d.sync += field.eq(number(value, 0, len(field) // 8))

    def _mask(self, m: Module, word: _Word, packet: _Packet) -> tuple[Signal, Signal]:
        """Stage pick, what a checksum is about: the word's bytes of the segment and its pseudo
        header, and its bytes in front of the segment; in each all other bytes are 0."""
        index, is_ipv6, found = packet.index, packet.is_ipv6, packet.found
        segment, end = packet.segment, packet.end
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
        d_segment_data, d_header_data = Signal(128), Signal(128)
        for byte in range(WORD_BYTES):
            part = slice(8 * byte, 8 * byte + 8)
            wanted = in_segment[byte] | pseudo[byte]
            m.d.sync += [
                d_segment_data[part].eq(word.data[part] & wanted.replicate(8)),
                d_header_data[part].eq(word.data[part] & in_header[byte].replicate(8)),
            ]
        return d_segment_data, d_header_data

    def _describe(
        self, m: Module, before: _Word, packet: _Packet, fields: _Fields
    ) -> tuple[_Word, Signal, Signal, Signal]:
        """Stages add and sum: whether all lengths fit, and the description of the frame. Gives the
        word in stage add, and of stage sum the description, the number of the segment's bytes, and
        whether the packet is IPv6."""
        layouts = Layouts(self._config)
        word = before.delayed(m, "d", without=("data", "tags"))
        d_valid, d_ipv6 = Signal(), Signal()
        d_segment, d_packet_end, d_packet_at = Signal.like(packet.segment), Signal(17), Signal(5)
        d_said, d_said_end = Signal(), Signal.like(packet.said_end)
        m.d.sync += [
            d_valid.eq(packet.valid & packet.found & ~packet.refused),
            d_ipv6.eq(packet.is_ipv6),
            d_segment.eq(packet.segment),
            d_packet_end.eq(packet.end),
            d_packet_at.eq(14 + (before.tags << 2)),
            d_said.eq(packet.said & Mux(packet.is_ipv6, packet.valid, 1)),
            d_said_end.eq(packet.said_end),
        ]
        payload_at = Signal(16)
        is_tcp = Signal()
        m.d.comb += [
            payload_at.eq(d_segment + (fields.offset_flags[12:] << 2)),
            is_tcp.eq(
                word.end
                & d_valid
                & (fields.offset_flags[12:] >= 5)
                & (payload_at <= d_packet_end)
                & (d_packet_at + d_packet_end <= word.length)
            ),
        ]

        s_ipv6, s_segment_bytes = Signal(), Signal(16)
        s_desc = Signal(layouts.packet_desc)
        m.d.sync += [
            s_ipv6.eq(d_ipv6),
            s_segment_bytes.eq(d_packet_end - d_segment),
            s_desc.eq(0),
            s_desc.ring_word.eq(word.start),
            s_desc.oversize.eq(word.over),
            s_desc.frame_bytes.eq(Mux(word.end, word.length, 0)),
            s_desc.refused_tcp.eq(
                word.end & d_said & ~is_tcp & (d_packet_at + d_said_end <= word.length)
            ),
        ]
        with m.If(is_tcp):
            m.d.sync += [
                s_desc.is_tcp.eq(1),
                s_desc.key.src.eq(fields.src),
                s_desc.key.dst.eq(fields.dst),
                s_desc.key.sport.eq(fields.ports[16:]),
                s_desc.key.dport.eq(fields.ports[:16]),
                s_desc.key.ipv6.eq(d_ipv6),
                s_desc.seq.eq(fields.seq),
                s_desc.tcp_flags.eq(fields.offset_flags[:8]),
                s_desc.tcp_offset.eq(d_packet_at + d_segment),
                s_desc.tcp_checksum.eq(Cat(fields.checksum[8:], fields.checksum[:8])),
                s_desc.payload_offset.eq(d_packet_at + payload_at),
                s_desc.payload_length.eq(d_packet_end - payload_at),
            ]
        return word, s_desc, s_segment_bytes, s_ipv6

    def _sum(self, m: Module, word: _Word, lanes: tuple[Signal, Signal]) -> list[Signal]:
        """Stages add and sum: the sums of the lanes of the segment, and of the headers, so far."""
        s_en, s_first = Signal(), Signal()
        m.d.sync += [s_en.eq(word.en), s_first.eq(word.first)]
        # Lanes are added low byte first: the byte-swapped sum of swapped lanes (RFC 1071, 2.B).
        totals = []
        for what, data, bits in (("segment", lanes[0], 30), ("header", lanes[1], 21)):
            sums = [Signal(18, name=f"{what}_sum_{i}") for i in range(2)]
            total = Signal(bits, name=f"{what}_total")
            for i, four in enumerate(sums):
                a, b, c, d = (data.word_select(4 * i + lane, 16) for lane in range(4))
                m.d.sync += four.eq((a + b) + (c + d))
            with m.If(s_en):
                m.d.sync += total.eq(Mux(s_first, 0, total) + (sums[0] + sums[1]))
            totals.append(total)
        return totals

    def _judge(
        self,
        m: Module,
        word: _Word,
        desc: View,
        segment_bytes: Value,
        is_ipv6: Value,
        totals: list[Signal],
    ) -> None:
        """Stages fold and judge: end-around carries, and the description leaves."""
        layouts = Layouts(self._config)
        s_done = Signal()
        m.d.sync += s_done.eq(word.end | word.over)
        f_ipv6, f_done = Signal(), Signal()
        f_desc, f_segment_bytes = Signal(layouts.packet_desc), Signal(16)
        j_ipv6, j_done = Signal(), Signal()
        j_desc = Signal(layouts.packet_desc)
        j_segment, j_header = Signal(18), Signal(17)
        swapped = Cat(f_segment_bytes[8:], f_segment_bytes[:8])
        m.d.sync += [
            f_ipv6.eq(is_ipv6),
            f_done.eq(s_done),
            f_desc.eq(desc),
            f_segment_bytes.eq(segment_bytes),
            j_ipv6.eq(f_ipv6),
            j_done.eq(f_done),
            j_desc.eq(f_desc),
            j_segment.eq((totals[0][:16] + totals[0][16:]) + (swapped + (TCP << 8))),
            j_header.eq(totals[1][:16] + totals[1][16:]),
        ]

        # A sum with a byte that is not 0 in it folds to all ones if it is good.
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
