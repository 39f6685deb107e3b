// SPDX-License-Identifier: Apache-2.0
// Both directions of the cipher: rings, staging memory, span sources and sinks. The sink of transmit
// is as the text ring: a tag waits for a clock without text. Checks that payloads hold until they
// are taken.
#include "Vtop.h"
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>
double sc_time_stamp() { return 0; }

struct Knobs {
    // Words of an item; chances in 256 that a clock brings no span, takes nothing.
    uint32_t span_words, verdict_words, tx_span_words, outcome_words;
    uint32_t ring_bytes, tx_ring_bytes, idle, stall, tx_idle, tx_stall, tag_stall, seed;
    // Chances in 256 that a ring goes over half full or back in a clock; 256: it always is.
    uint32_t over_half, tx_over_half;
};
struct Result {
    uint64_t cycles, verdicts, outcomes, tx_verdicts, tags, unclean_stages, unstable, rx_done,
        tx_done;
};

struct Source {
    const uint32_t *spans, *stages;
    uint64_t count, next, *offered; // the clock in which each span was offered
    uint32_t words;
    bool offering, loaded;
};
struct Held {
    std::vector<uint32_t> words;
    bool holding;
    // A payload that was offered and not taken must come again.
    template <class P> uint64_t see(bool valid, bool ready, const P &payload) {
        uint64_t wrong = holding && !valid;
        for (size_t i = 0; valid && i < words.size(); i++) {
            wrong += holding && payload[i] != words[i];
            words[i] = payload[i];
        }
        holding = valid && !ready;
        return wrong;
    }
};

template <class P>
static void read_ring(P &to, const uint8_t *ring, uint32_t at, uint32_t mask) {
    for (int i = 0; i < 4; i++) {
        uint32_t word = 0;
        for (int b = 0; b < 4; b++) word |= (uint32_t)ring[(at + 4 * i + b) & mask] << 8 * b;
        to[i] = word;
    }
}
template <class P>
static uint64_t write_ring(uint8_t *ring, uint32_t at, uint32_t mask, uint32_t lanes, P &data) {
    uint64_t count = 0;
    for (int i = 0; i < 16; i++)
        if (lanes >> i & 1) {
            ring[(at + i) & mask] = data[i / 4] >> 8 * (i % 4);
            count++;
        }
    return count;
}

extern "C" int run(const Knobs *knobs, const uint32_t *spans, uint64_t count,
                   const uint32_t *stages, const uint32_t *tx_spans, uint64_t tx_count,
                   const uint32_t *tx_stages, const uint8_t *ring, const uint8_t *tx_ring,
                   uint8_t *shadow, uint8_t *text, uint32_t *verdicts, uint64_t wanted,
                   uint32_t *outcomes, uint64_t tx_wanted, uint64_t *written, uint32_t *tags,
                   uint64_t tags_wanted, uint64_t limit, uint64_t *offered, uint64_t *tx_offered,
                   uint64_t *at, uint64_t *tx_at, Result *result) {
    VerilatedContext context;
    Vtop *top = new Vtop(&context);
    uint32_t stage[64] = {}, random = knobs->seed * 2654435761u + 1, stage_data = 0;
    uint32_t mask = knobs->ring_bytes - 1, tx_mask = knobs->tx_ring_bytes - 1;
    uint32_t read[2] = {}, tx_read[2] = {};
    uint64_t text_bytes = 0;
    Source rx = {spans, stages, count, 0, offered, knobs->span_words, false, false};
    Source tx = {tx_spans, tx_stages, tx_count, 0, tx_offered, knobs->tx_span_words, false, false};
    Held verdict = {std::vector<uint32_t>(knobs->verdict_words), false};
    Held outcome = {std::vector<uint32_t>(knobs->outcome_words), false};
    Held tag = {std::vector<uint32_t>(4), false};
    auto chance = [&](uint32_t of_256) {
        random ^= random << 13; random ^= random >> 17; random ^= random << 5;
        return (random >> 8 & 255) < of_256;
    };
    // Offers the next span; a key is staged only when the other direction's was taken.
    auto offer = [&](Source &own, const Source &other, uint32_t idle) {
        const uint32_t *span = own.spans + own.next * own.words;
        if (own.next == own.count || own.offering || chance(idle)) return (const uint32_t *)nullptr;
        if ((span[0] & 3) == 1) {
            if (other.loaded) return (const uint32_t *)nullptr;
            for (int i = 0; i < 44; i++) stage[i] = *own.stages++;
            own.loaded = true;
        }
        own.offering = true;
        own.offered[own.next] = result->cycles;
        return span;
    };
    auto took = [&](Source &own) {
        if (own.loaded)
            for (uint32_t word : stage) result->unclean_stages += word != 0;
        own.loaded = own.offering = false;
        own.next++;
    };
    auto flip = [&](CData &over, uint32_t of_256) {
        if (of_256) over = of_256 > 255 || chance(of_256) != over;
    };
    memset(result, 0, sizeof *result);
    for (; result->cycles < limit; result->cycles++) {
        bool rx_done = rx.next == rx.count && result->verdicts == wanted;
        bool tx_done = tx.next == tx.count && result->outcomes == tx_wanted &&
                       result->tags == tags_wanted;
        if (rx_done && !result->rx_done) result->rx_done = result->cycles;
        if (tx_done && !result->tx_done) result->tx_done = result->cycles;
        if ((rx_done || knobs->stall > 255) && (tx_done || knobs->tx_stall > 255)) break;
        if (const uint32_t *span = offer(rx, tx, knobs->idle))
            for (uint32_t i = 0; i < rx.words; i++) top->spans_payload[i] = span[i];
        if (const uint32_t *span = offer(tx, rx, knobs->tx_idle))
            for (uint32_t i = 0; i < tx.words; i++) top->tx_spans_payload[i] = span[i];
        top->spans_valid = rx.offering;
        top->tx_spans_valid = tx.offering;
        top->verdicts_ready = !chance(knobs->stall);
        top->tx_tags_ready = !chance(knobs->tag_stall);
        read_ring(top->cipher_data, ring, read[1], mask);
        read_ring(top->tx_ring_data, tx_ring, tx_read[1], tx_mask);
        top->stage_data = stage_data;
        flip(top->over_half, knobs->over_half);
        flip(top->tx_over_half, knobs->tx_over_half);
        bool stalled = chance(knobs->tx_stall);
        top->clk = 0; top->eval();
        bool is_verdict = top->tx_outcomes_payload[0] & 1;
        top->tx_outcomes_ready = is_verdict ? !stalled : !top->tx_text_en;
        top->eval();
        if (rx.offering && top->spans_ready) took(rx);
        if (tx.offering && top->tx_spans_ready) took(tx);
        result->unstable += verdict.see(top->verdicts_valid, top->verdicts_ready,
                                        top->verdicts_payload);
        if (top->verdicts_valid && top->verdicts_ready && result->verdicts < wanted) {
            at[result->verdicts] = result->cycles;
            memcpy(verdicts + result->verdicts++ * knobs->verdict_words, verdict.words.data(),
                   4 * knobs->verdict_words);
        }
        result->unstable += tag.see(top->tx_tags_valid, top->tx_tags_ready, top->tx_tags_payload);
        if (top->tx_tags_valid && top->tx_tags_ready && result->tags < tags_wanted)
            memcpy(tags + 4 * result->tags++, tag.words.data(), 16);
        result->unstable += outcome.see(top->tx_outcomes_valid, top->tx_outcomes_ready,
                                        top->tx_outcomes_payload);
        if (top->tx_outcomes_valid && top->tx_outcomes_ready && result->outcomes < tx_wanted) {
            written[result->outcomes] = text_bytes;
            tx_at[result->outcomes] = result->cycles;
            memcpy(outcomes + result->outcomes++ * knobs->outcome_words, outcome.words.data(),
                   4 * knobs->outcome_words);
        }
        if (top->shadow_en)
            write_ring(shadow, top->shadow_addr, mask, top->shadow_mask, top->shadow_data);
        if (top->tx_text_en)
            text_bytes += write_ring(text, top->tx_text_addr, tx_mask, top->tx_text_mask,
                                     top->tx_text_data);
        read[1] = read[0]; read[0] = top->cipher_addr;
        tx_read[1] = tx_read[0]; tx_read[0] = top->tx_ring_addr;
        stage_data = stage[top->stage_addr];
        if (top->stage_clear) stage[top->stage_addr] = 0;
        top->clk = 1; top->eval();
    }
    delete top;
    return 0;
}
