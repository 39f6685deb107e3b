// SPDX-License-Identifier: Apache-2.0
// The simulated device behind a small C interface, for ctypes.
//
// Everything that happens in every clock is here: frames into s_axis, frames and metadata out of
// m_axis and m_meta, single accesses on s_axil, and a check of each output stream's rules; in a
// device with transmit (SEALANE_TX) also frames and metadata into s_tx_axis and s_tx_meta, frames
// and completions out of m_tx_axis and m_tx_comp.
// Python hands over frames and takes completions, many at a time.

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "Vsealane.h"
#include "streams.h"
#include "verilated.h"
#if VM_TRACE
#include "verilated_fst_c.h"
#endif

namespace {

using streams::Fault;

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
    // The same of transmit; a frame that does not leave is never out.
    uint64_t tx_first_in = 0, tx_last_out = 0, tx_words_in = 0, tx_words_out = 0;
    uint64_t tx_stall_cycles = 0;
    uint64_t tx_frames_in = 0, tx_frames_out = 0, tx_frames_posted = 0;
    uint64_t tx_completions = 0;  // whole ones, ever
};

enum Output { M_AXIS = 1, M_META = 2, M_TX_AXIS = 4, M_TX_COMP = 8 };

// TX_STATUS: `reason` in bits 4:0, `op` in bits 7:5. A frame leaves for reason NONE, but DUMP.
bool leaves(uint32_t status) { return (status & 31) == 0 && (status >> 5 & 7) != 3; }

struct Device {
    VerilatedContext context;
    Vsealane* top;
#if VM_TRACE
    VerilatedFstC* trace = nullptr;
#endif
    Stats stats;
    Fault fail{stats.cycles};
    streams::Random random;
    unsigned idle = 0, stall = 0;  // per 256 clocks
    unsigned hold = 0;             // of Output: never ready

    streams::FrameSource input;
    streams::FrameSink frames;
    streams::WordSink<16> metas;
    streams::FrameSource tx_input;
    streams::WordSource<8> tx_metas;
    streams::FrameSink tx_frames;
    streams::WordSink<4> completions;
    uint64_t tx_leaving = 0;  // frames that left or will, as completions say
    uint64_t progress = 0;    // clock of the latest transfer

    // What stood at s_axil in the clock before and was not taken.
    bool b_held = false, r_held = false;
    uint32_t held_rdata = 0, held_rresp = 0, held_bresp = 0;

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
        input.ports = {&top->s_axis_tdata, &top->s_axis_tvalid, &top->s_axis_tready,
                       &top->s_axis_tlast, &top->s_axis_tkeep};
        frames.ports = {&top->m_axis_tdata, &top->m_axis_tvalid, &top->m_axis_tready,
                        &top->m_axis_tlast, &top->m_axis_tkeep};
        metas.ports = {&top->m_meta_tdata, &top->m_meta_tvalid, &top->m_meta_tready};
        frames.name = "m_axis";
        metas.name = "m_meta";
#if SEALANE_TX
        tx_input.ports = {&top->s_tx_axis_tdata, &top->s_tx_axis_tvalid, &top->s_tx_axis_tready,
                          &top->s_tx_axis_tlast, &top->s_tx_axis_tkeep};
        tx_metas.ports = {&top->s_tx_meta_tdata, &top->s_tx_meta_tvalid, &top->s_tx_meta_tready};
        tx_frames.ports = {&top->m_tx_axis_tdata, &top->m_tx_axis_tvalid, &top->m_tx_axis_tready,
                           &top->m_tx_axis_tlast, &top->m_tx_axis_tkeep};
        completions.ports = {&top->m_tx_comp_tdata, &top->m_tx_comp_tvalid,
                             &top->m_tx_comp_tready, &top->m_tx_comp_tlast};
        tx_frames.name = "m_tx_axis";
        completions.name = "m_tx_comp";
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

    bool ready(Output output) { return !random.chance(stall) && !(hold & output); }

    // One clock. Inputs are set, logic settles, transfers are noted, then comes the edge.
    void clock() {
        input.drive(random, idle);
        frames.drive(ready(M_AXIS));
        metas.drive(ready(M_META));
        if (SEALANE_TX) {
            tx_input.drive(random, idle);
            tx_metas.drive(random, idle);
            tx_frames.drive(ready(M_TX_AXIS));
            completions.drive(ready(M_TX_COMP));
        }
        top->eval();
        bool moved = receive();
        if (SEALANE_TX) moved |= transmit();
        check_registers();
        finish_edge();
        if (moved) progress = stats.cycles;
        stats.frames_in += input.advance();
        if (SEALANE_TX) {
            stats.tx_frames_in += tx_input.advance();
            tx_metas.advance();
        }
    }

    // Whether anything moves at the ports of receive.
    bool receive() {
        bool moved = input.sample();
        if (moved && stats.words_in++ == 0) stats.first_in = stats.cycles;
        stats.stall_cycles += input.waits();
        moved |= metas.sample(fail);
        bool offered = *frames.ports.valid;
        if (offered && metas.packets + metas.now.held <= frames.frames)
            fail("a frame's word came before its metadata");
        if (frames.sample(fail)) {
            moved = true;
            stats.words_out++;
            stats.last_out = stats.cycles;
            stats.frames_out = frames.frames;
        }
        return moved;
    }

    // Whether anything moves at the ports of transmit.
    bool transmit() {
        bool moved = tx_input.sample();
        if (moved && stats.tx_words_in++ == 0) stats.tx_first_in = stats.cycles;
        stats.tx_stall_cycles += tx_input.waits();
        moved |= tx_metas.sample();
        if (tx_frames.sample(fail)) {
            moved = true;
            stats.tx_words_out++;
            stats.tx_last_out = stats.cycles;
            stats.tx_frames_out = tx_frames.frames;
        }
        if (completions.sample(fail)) {
            moved = true;
            if (completions.now.last) tx_leaving += leaves(completions.now.data[0]);
            stats.tx_completions = completions.packets;
        }
        if (stats.tx_completions == stats.tx_frames_posted && tx_frames.frames > tx_leaving)
            fail("a frame left whose completion says that it did not");
        if (stats.tx_completions > stats.tx_frames_posted) fail("a completion of no frame");
        return moved;
    }

    void check_registers() {
        if (b_held && !(top->s_axil_bvalid && top->s_axil_bresp == held_bresp))
            fail("s_axil B did not hold its payload");
        if (r_held && !(top->s_axil_rvalid && top->s_axil_rdata == held_rdata
                        && top->s_axil_rresp == held_rresp))
            fail("s_axil R did not hold its payload");
        b_held = top->s_axil_bvalid && !top->s_axil_bready;
        r_held = top->s_axil_rvalid && !top->s_axil_rready;
        held_bresp = top->s_axil_bresp;
        held_rdata = top->s_axil_rdata;
        held_rresp = top->s_axil_rresp;
    }

    bool done() const {
        return frames.frames == stats.frames_posted && metas.packets == stats.frames_posted
               && tx_input.queue.empty() && completions.packets == stats.tx_frames_posted
               && tx_frames.frames == tx_leaving;
    }

    // 0: done; 1: `bound` clocks without a transfer; 2: see `fail`.
    int run(uint64_t bound) {
        progress = stats.cycles;
        while (!done()) {
            clock();
            if (!fail.text.empty()) return 2;
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
void sealane_hold(Device* d, unsigned outputs) { d->hold = outputs; }
void sealane_post(Device* d, const uint8_t* bytes, uint32_t length) {
    d->input.queue.emplace_back(bytes, bytes + length);
    d->stats.frames_posted++;
}
void sealane_post_tx(Device* d, const uint8_t* bytes, uint32_t length, const uint8_t* meta) {
    d->tx_input.queue.emplace_back(bytes, bytes + length);
    std::memcpy(d->tx_metas.queue.emplace_back().data(), meta, 32);
    d->stats.tx_frames_posted++;
}
int sealane_run(Device* d, uint64_t bound) { return d->run(bound); }
void sealane_clocks(Device* d, uint64_t count) {
    while (count-- && d->fail.text.empty()) d->clock();
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
const char* sealane_error(Device* d) { return d->fail.text.c_str(); }
const uint64_t* sealane_stats(Device* d) { return reinterpret_cast<const uint64_t*>(&d->stats); }
void sealane_clear(Device* d) {
    d->stats.first_in = d->stats.last_out = 0;
    d->stats.words_in = d->stats.words_out = d->stats.stall_cycles = 0;
    d->stats.tx_first_in = d->stats.tx_last_out = 0;
    d->stats.tx_words_in = d->stats.tx_words_out = d->stats.tx_stall_cycles = 0;
}

// What came out is taken in two steps: how much there is, then a copy of it all.
uint32_t sealane_waiting(Device* d, uint32_t* length) {
    size_t count = std::min(d->frames.ends.size(), d->metas.ends.size());
    *length = d->frames.length(count);
    return count;
}
void sealane_take(Device* d, uint32_t count, uint8_t* bytes, uint32_t* ends, uint32_t* metas) {
    d->frames.take(count, bytes, ends);
    d->metas.take(count, metas, nullptr);
}
uint32_t sealane_waiting_tx(Device* d, uint32_t* length) {
    size_t count = d->tx_frames.ends.size();
    *length = d->tx_frames.length(count);
    return count;
}
void sealane_take_tx(Device* d, uint32_t count, uint8_t* bytes, uint32_t* ends) {
    d->tx_frames.take(count, bytes, ends);
}
uint32_t sealane_waiting_completions(Device* d, uint32_t* beats) {
    size_t count = d->completions.ends.size();
    *beats = d->completions.length(count);
    return count;
}
void sealane_take_completions(Device* d, uint32_t count, uint32_t* beats, uint32_t* ends) {
    d->completions.take(count, beats, ends);
}
}
