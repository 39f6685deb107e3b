// SPDX-License-Identifier: Apache-2.0
// Rings, staging memory, span source and verdict sink around the cipher. Checks that payloads hold
// until they are taken.
#include "Vtop.h"
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>
double sc_time_stamp() { return 0; }

struct Knobs {
    uint32_t span_words, verdict_words, ring_bytes, idle, stall, seed;
};
struct Result {
    uint64_t verdicts, cycles, first_taken, last_verdict, slots, unclean_stages, unstable;
};

extern "C" int run(const Knobs *knobs, const uint32_t *spans, uint64_t count,
                   const uint32_t *stages, const uint8_t *ring, uint8_t *shadow,
                   uint32_t *verdicts, uint64_t expected, uint64_t limit, Result *result) {
    VerilatedContext context;
    Vtop *top = new Vtop(&context);
    uint32_t stage[64] = {}, random = knobs->seed * 2654435761u + 1, mask = knobs->ring_bytes - 1;
    uint32_t read[2] = {}, stage_data = 0;
    std::vector<uint32_t> held(knobs->verdict_words);
    bool holding = false, offering = false, loaded = false;
    uint64_t next = 0;
    auto chance = [&](uint32_t of_256) {
        random ^= random << 13; random ^= random >> 17; random ^= random << 5;
        return (random >> 8 & 255) < of_256;
    };
    memset(result, 0, sizeof *result);
    for (; result->cycles < limit && (next < count || result->verdicts < expected);
         result->cycles++) {
        if (next < count && !offering && !chance(knobs->idle)) {
            offering = true;
            const uint32_t *span = spans + next * knobs->span_words;
            for (uint32_t i = 0; i < knobs->span_words; i++) top->spans_payload[i] = span[i];
            if ((span[0] & 3) == 1) {
                for (int i = 0; i < 44; i++) stage[i] = *stages++;
                loaded = true;
            }
        }
        top->spans_valid = offering;
        top->verdicts_ready = !chance(knobs->stall);
        for (int i = 0; i < 4; i++) {
            uint32_t word = 0;
            for (int b = 0; b < 4; b++)
                word |= (uint32_t)ring[(read[1] + 4 * i + b) & mask] << 8 * b;
            top->cipher_data[i] = word;
        }
        top->stage_data = stage_data;
        top->clk = 0; top->eval();
        if (offering && top->spans_ready) {
            if (!result->first_taken && (spans[next * knobs->span_words] & 3) == 0)
                result->first_taken = result->cycles;
            if (loaded)
                for (uint32_t word : stage) result->unclean_stages += word != 0;
            loaded = offering = false;
            next++;
        }
        if (top->verdicts_valid) {
            for (uint32_t i = 0; i < knobs->verdict_words; i++) {
                uint32_t word = top->verdicts_payload[i];
                result->unstable += holding && word != held[i];
                held[i] = word;
            }
            holding = !top->verdicts_ready;
            if (!holding && result->verdicts < expected) {
                memcpy(verdicts + result->verdicts++ * knobs->verdict_words, held.data(),
                       4 * knobs->verdict_words);
                result->last_verdict = result->cycles;
            }
        } else {
            result->unstable += holding;
            holding = false;
        }
        if (top->shadow_en) {
            result->slots++;
            for (int i = 0; i < 16; i++)
                if (top->shadow_mask >> i & 1)
                    shadow[(top->shadow_addr + i) & mask] = top->shadow_data[i / 4] >> 8 * (i % 4);
        }
        read[1] = read[0];
        read[0] = top->cipher_addr;
        stage_data = stage[top->stage_addr];
        if (top->stage_clear) stage[top->stage_addr] = 0;
        top->clk = 1; top->eval();
    }
    delete top;
    return result->verdicts == expected;
}
