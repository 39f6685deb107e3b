// SPDX-License-Identifier: Apache-2.0
// The simulated device behind a small C interface, for ctypes.
//
// Everything that happens in every clock is here: frames into s_axis, frames and metadata out of
// m_axis and m_meta, single accesses on s_axil, and a check of each output stream's rules
// (AMBA AXI-Stream, ARM IHI 0051, 2.2: once valid, a payload stays until it is taken).
// Python hands over frames and takes completions, many at a time.

#include <array>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <deque>
#include <string>
#include <vector>

#include "Vsealane.h"
#include "verilated.h"
#if VM_TRACE
#include "verilated_fst_c.h"
#endif

namespace {

using Meta = std::array<uint32_t, 16>;

// Counters that Python reads as an array of uint64_t; the order is that of sim/transport.py.
struct Stats {
    uint64_t cycles = 0;         // clocks since power-up
    uint64_t first_in = 0;       // clock of the first word in since `clear`
    uint64_t last_out = 0;       // clock of the last word out
    uint64_t words_in = 0;       // words in since `clear`
    uint64_t words_out = 0;
    uint64_t stall_cycles = 0;   // clocks in which a word waited at s_axis since `clear`
    uint64_t frames_in = 0;      // frames wholly in, ever
    uint64_t frames_out = 0;     // frames wholly out, ever
    uint64_t frames_posted = 0;  // ever
};

// Splitmix64 (public domain, Sebastiano Vigna): bubbles and backpressure by seed.
struct Random {
    uint64_t state = 0;
    uint64_t next() {
        uint64_t z = (state += 0x9E3779B97F4A7C15ull);
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
        return z ^ (z >> 31);
    }
    bool chance(unsigned per_256) { return per_256 && (next() & 255) < per_256; }
};

struct Device {
    VerilatedContext context;
    Vsealane* top;
#if VM_TRACE
    VerilatedFstC* trace = nullptr;
#endif
    Stats stats;
    Random random;
    unsigned idle = 0, stall = 0;  // per 256 clocks

    std::deque<std::vector<uint8_t>> input;
    size_t input_at = 0;  // bytes of input.front() that have gone in
    bool input_shown = false;

    std::vector<uint8_t> bytes;  // of all frames out
    std::vector<uint32_t> ends;  // end of each whole frame in `bytes`
    std::vector<Meta> metas;     // not taken by Python yet
    uint64_t metas_out = 0;
    uint64_t progress = 0;  // clock of the latest word or metadata
    std::string error;

    // What stood at an output in the clock before and was not taken.
    bool frame_held = false, meta_held = false, b_held = false, r_held = false;
    std::array<uint32_t, 4> held_data{};
    uint32_t held_keep = 0, held_last = 0, held_rdata = 0, held_rresp = 0, held_bresp = 0;
    Meta held_meta{};

    explicit Device(const char* waves) {
        context.randReset(0);
        top = new Vsealane{&context};
#if VM_TRACE
        if (waves) {
            context.traceEverOn(true);
            trace = new VerilatedFstC;
            top->trace(trace, 99);
            trace->open(waves);
        }
#else
        (void)waves;
#endif
        top->rst = 1;
        for (int i = 0; i < 4; i++) edge();
        top->rst = 0;
    }

    ~Device() {
#if VM_TRACE
        if (trace) { trace->close(); delete trace; }
#endif
        top->final();
        delete top;
    }

    void edge() {
        top->clk = 0;
        top->eval();
        finish_edge();
    }

    void finish_edge() {
        dump();
        top->clk = 1;
        top->eval();
        dump();
        top->clk = 0;
        stats.cycles++;
    }

    void dump() {
#if VM_TRACE
        if (trace) trace->dump(context.time());
        context.timeInc(1);
#endif
    }

    void fail(const std::string& what) {
        if (error.empty()) error = what + " in clock " + std::to_string(stats.cycles);
    }

    void show_input() {
        const auto& frame = input.front();
        size_t left = frame.size() - input_at;
        size_t count = left < 16 ? left : 16;
        uint32_t word[4] = {0, 0, 0, 0};
        std::memcpy(word, frame.data() + input_at, count);
        for (int i = 0; i < 4; i++) top->s_axis_tdata[i] = word[i];
        top->s_axis_tkeep = (1u << count) - 1;
        top->s_axis_tlast = left <= 16;
        top->s_axis_tvalid = 1;
        input_shown = true;
    }

    void check_outputs() {
        if (frame_held) {
            bool same = top->m_axis_tvalid && top->m_axis_tkeep == held_keep
                        && top->m_axis_tlast == held_last;
            for (int i = 0; i < 4; i++) same &= top->m_axis_tdata[i] == held_data[i];
            if (!same) fail("m_axis did not hold its payload");
        }
        if (meta_held) {
            bool same = top->m_meta_tvalid;
            for (int i = 0; i < 16; i++) same &= top->m_meta_tdata[i] == held_meta[i];
            if (!same) fail("m_meta did not hold its payload");
        }
        if (b_held && !(top->s_axil_bvalid && top->s_axil_bresp == held_bresp))
            fail("s_axil B did not hold its payload");
        if (r_held && !(top->s_axil_rvalid && top->s_axil_rdata == held_rdata
                        && top->s_axil_rresp == held_rresp))
            fail("s_axil R did not hold its payload");
    }

    // One clock. Inputs are set, logic settles, transfers are noted, then comes the edge.
    void clock() {
        if (!input_shown) {
            if (!input.empty() && !random.chance(idle)) show_input();
            else top->s_axis_tvalid = 0;
        }
        bool ready = !random.chance(stall);
        top->m_axis_tready = ready;
        top->m_meta_tready = stall ? !random.chance(stall) : 1;
        top->eval();
        check_outputs();

        bool taken = false;
        if (top->s_axis_tvalid) {
            if (top->s_axis_tready) {
                taken = true;
                if (stats.words_in++ == 0) stats.first_in = stats.cycles;
            } else {
                stats.stall_cycles++;
            }
        }
        if (top->m_meta_tvalid) {
            meta_held = !top->m_meta_tready;
            Meta meta;
            for (int i = 0; i < 16; i++) meta[i] = top->m_meta_tdata[i];
            held_meta = meta;
            if (!meta_held) {
                metas.push_back(meta);
                metas_out++;
                progress = stats.cycles;
            }
        } else {
            meta_held = false;
        }
        if (top->m_axis_tvalid) {
            frame_held = !ready;
            for (int i = 0; i < 4; i++) held_data[i] = top->m_axis_tdata[i];
            held_keep = top->m_axis_tkeep;
            held_last = top->m_axis_tlast;
            if (metas_out + top->m_meta_tvalid * meta_held <= stats.frames_out)
                fail("a frame's word came before its metadata");
            if (ready) take_output();
        } else {
            frame_held = false;
        }
        b_held = top->s_axil_bvalid && !top->s_axil_bready;
        r_held = top->s_axil_rvalid && !top->s_axil_rready;
        held_bresp = top->s_axil_bresp;
        held_rdata = top->s_axil_rdata;
        held_rresp = top->s_axil_rresp;

        finish_edge();
        if (taken) {
            progress = stats.cycles;
            input_shown = false;
            input_at += 16;
            if (input_at >= input.front().size()) {
                input.pop_front();
                input_at = 0;
                stats.frames_in++;
            }
        }
    }

    void take_output() {
        uint32_t count = __builtin_popcount(held_keep);
        if (held_keep == 0 || held_keep != (1u << count) - 1 || (!held_last && count != 16))
            fail("m_axis tkeep is wrong");
        const uint8_t* data = reinterpret_cast<const uint8_t*>(held_data.data());
        bytes.insert(bytes.end(), data, data + count);
        stats.words_out++;
        stats.last_out = progress = stats.cycles;
        if (held_last) {
            ends.push_back(bytes.size());
            stats.frames_out++;
        }
    }

    bool done() const {
        return stats.frames_out == stats.frames_posted && metas_out == stats.frames_posted;
    }

    // 0: done; 1: `bound` clocks without a word in or out; 2: see `error`.
    int run(uint64_t bound) {
        progress = stats.cycles;
        while (!done()) {
            clock();
            if (!error.empty()) return 2;
            if (stats.cycles - progress > bound) return 1;
        }
        return 0;
    }

    int write(uint32_t address, uint32_t value, uint64_t bound) {
        top->s_axil_awaddr = address;
        top->s_axil_awvalid = 1;
        top->s_axil_wdata = value;
        top->s_axil_wstrb = 15;
        top->s_axil_wvalid = 1;
        top->s_axil_bready = 1;
        int response = -1;
        for (uint64_t i = 0; response < 0 && i < bound; i++) {
            top->eval();
            bool aw = top->s_axil_awvalid && top->s_axil_awready;
            bool w = top->s_axil_wvalid && top->s_axil_wready;
            if (top->s_axil_bvalid) response = top->s_axil_bresp;
            clock();
            if (aw) top->s_axil_awvalid = 0;
            if (w) top->s_axil_wvalid = 0;
        }
        top->s_axil_awvalid = top->s_axil_wvalid = top->s_axil_bready = 0;
        return response;
    }

    int read(uint32_t address, uint32_t* value, uint64_t bound) {
        top->s_axil_araddr = address;
        top->s_axil_arvalid = 1;
        top->s_axil_rready = 1;
        int response = -1;
        for (uint64_t i = 0; response < 0 && i < bound; i++) {
            top->eval();
            bool ar = top->s_axil_arvalid && top->s_axil_arready;
            if (top->s_axil_rvalid) {
                response = top->s_axil_rresp;
                *value = top->s_axil_rdata;
            }
            clock();
            if (ar) top->s_axil_arvalid = 0;
        }
        top->s_axil_arvalid = top->s_axil_rready = 0;
        return response;
    }
};

}  // namespace

extern "C" {

void* sealane_new(const char* waves) { return new Device(waves); }
void sealane_delete(Device* d) { delete d; }
void sealane_options(Device* d, uint64_t seed, unsigned idle, unsigned stall) {
    d->random.state = seed;
    d->idle = idle;
    d->stall = stall;
}
void sealane_post(Device* d, const uint8_t* bytes, uint32_t length) {
    d->input.emplace_back(bytes, bytes + length);
    d->stats.frames_posted++;
}
int sealane_run(Device* d, uint64_t bound) { return d->run(bound); }
void sealane_clocks(Device* d, uint64_t count) {
    while (count-- && d->error.empty()) d->clock();
}
int sealane_write(Device* d, uint32_t address, uint32_t value, uint64_t bound) {
    return d->write(address, value, bound);
}
int sealane_read(Device* d, uint32_t address, uint32_t* value, uint64_t bound) {
    return d->read(address, value, bound);
}
int sealane_irq(Device* d) {
    d->top->eval();
    return d->top->irq;
}
const char* sealane_error(Device* d) { return d->error.c_str(); }
const uint64_t* sealane_stats(Device* d) { return reinterpret_cast<const uint64_t*>(&d->stats); }
void sealane_clear(Device* d) {
    d->stats.first_in = d->stats.last_out = 0;
    d->stats.words_in = d->stats.words_out = d->stats.stall_cycles = 0;
}

// Completions are taken in two steps: how many there are, then a copy of them all.
uint32_t sealane_waiting(Device* d, uint32_t* length) {
    size_t count = d->ends.size() < d->metas.size() ? d->ends.size() : d->metas.size();
    *length = count ? d->ends[count - 1] : 0;
    return count;
}
void sealane_take(Device* d, uint32_t count, uint8_t* bytes, uint32_t* ends, uint32_t* metas) {
    uint32_t length = count ? d->ends[count - 1] : 0;
    std::memcpy(bytes, d->bytes.data(), length);
    std::memcpy(ends, d->ends.data(), count * sizeof(uint32_t));
    std::memcpy(metas, d->metas.data(), count * sizeof(Meta));
    d->bytes.erase(d->bytes.begin(), d->bytes.begin() + length);
    d->ends.erase(d->ends.begin(), d->ends.begin() + count);
    for (auto& end : d->ends) end -= length;
    d->metas.erase(d->metas.begin(), d->metas.begin() + count);
}
}
