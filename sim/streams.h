// SPDX-License-Identifier: Apache-2.0
// Drivers of AXI4-Stream ports under Verilator, one for each kind of stream.
//
// Each clock has three steps: `drive` sets what the device sees; logic settles; `sample` says
// whether a transfer takes place and, at an output, checks the stream's rules (ARM IHI 0051, 2.2:
// once valid, a payload stays until it is taken); behind the edge `advance` goes on.

#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <deque>
#include <string>
#include <vector>

#include "verilated.h"

namespace streams {

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

// The first rule that was broken.
struct Fault {
    std::string text;
    const uint64_t& cycle;
    explicit Fault(const uint64_t& cycle) : cycle(cycle) {}
    void operator()(const std::string& what) {
        if (text.empty()) text = what + " in clock " + std::to_string(cycle);
    }
};

// Where Verilator keeps a port; `keep` and `last` only where the stream has them.
template <int WORDS>
struct Ports {
    VlWide<WORDS>* data;
    CData* valid;
    CData* ready;
    CData* last = nullptr;
    SData* keep = nullptr;
};

// Frames, 16 bytes a word, into the device.
struct FrameSource {
    Ports<4> ports;
    std::deque<std::vector<uint8_t>> queue;
    size_t at = 0;  // bytes of queue.front() that have gone in
    bool shown = false, taken = false;

    void drive(Random& random, unsigned idle) {
        if (shown) return;
        if (queue.empty() || random.chance(idle)) {
            *ports.valid = 0;
            return;
        }
        const auto& frame = queue.front();
        size_t left = frame.size() - at;
        size_t count = left < 16 ? left : 16;
        uint32_t word[4] = {0, 0, 0, 0};
        std::memcpy(word, frame.data() + at, count);
        for (int i = 0; i < 4; i++) (*ports.data)[i] = word[i];
        *ports.keep = (1u << count) - 1;
        *ports.last = left <= 16;
        *ports.valid = 1;
        shown = true;
    }
    bool waits() const { return *ports.valid && !*ports.ready; }
    bool sample() { return taken = *ports.valid && *ports.ready; }
    // Whether a frame's last word went in.
    bool advance() {
        if (!taken) return false;
        shown = false;
        at += 16;
        if (at < queue.front().size()) return false;
        queue.pop_front();
        at = 0;
        return true;
    }
};

// Payloads of one word into the device.
template <int WORDS>
struct WordSource {
    Ports<WORDS> ports;
    std::deque<std::array<uint32_t, WORDS>> queue;
    bool shown = false, taken = false;

    void drive(Random& random, unsigned idle) {
        if (shown) return;
        if (queue.empty() || random.chance(idle)) {
            *ports.valid = 0;
            return;
        }
        for (int i = 0; i < WORDS; i++) (*ports.data)[i] = queue.front()[i];
        *ports.valid = 1;
        shown = true;
    }
    bool sample() { return taken = *ports.valid && *ports.ready; }
    void advance() {
        if (!taken) return;
        shown = false;
        queue.pop_front();
    }
};

// What stood at an output and was not taken must stand there in the next clock.
template <int WORDS>
struct Held {
    bool held = false;
    std::array<uint32_t, WORDS> data{};
    uint32_t last = 0, keep = 0;

    void check(const Ports<WORDS>& ports, const std::string& name, Fault& fault) {
        if (held) {
            bool same = *ports.valid;
            for (int i = 0; i < WORDS; i++) same &= (*ports.data)[i] == data[i];
            if (ports.last) same &= *ports.last == last;
            if (ports.keep) same &= *ports.keep == keep;
            if (!same) fault(name + " did not hold its payload");
        }
        held = *ports.valid && !*ports.ready;
        if (!*ports.valid) return;
        for (int i = 0; i < WORDS; i++) data[i] = (*ports.data)[i];
        if (ports.last) last = *ports.last;
        if (ports.keep) keep = *ports.keep;
    }
};

// Frames out of the device, kept until they are taken.
struct FrameSink {
    Ports<4> ports;
    std::string name;
    Held<4> now;
    std::vector<uint8_t> bytes;  // of all frames
    std::vector<uint32_t> ends;  // end of each whole frame in `bytes`
    uint64_t frames = 0;         // whole ones, ever

    void drive(bool ready) { *ports.ready = ready; }
    bool sample(Fault& fault) {
        now.check(ports, name, fault);
        if (!*ports.valid || !*ports.ready) return false;
        uint32_t count = __builtin_popcount(now.keep);
        if (now.keep == 0 || now.keep != (1u << count) - 1 || (!now.last && count != 16))
            fault(name + " tkeep is wrong");
        const uint8_t* data = reinterpret_cast<const uint8_t*>(now.data.data());
        bytes.insert(bytes.end(), data, data + count);
        if (now.last) {
            ends.push_back(bytes.size());
            frames++;
        }
        return true;
    }
    uint32_t length(uint32_t count) const { return count ? ends[count - 1] : 0; }
    void take(uint32_t count, uint8_t* to, uint32_t* to_ends) {
        uint32_t gone = length(count);
        std::memcpy(to, bytes.data(), gone);
        std::memcpy(to_ends, ends.data(), count * sizeof(uint32_t));
        bytes.erase(bytes.begin(), bytes.begin() + gone);
        ends.erase(ends.begin(), ends.begin() + count);
        for (auto& end : ends) end -= gone;
    }
};

// Packets of words out of the device; without `last` each word is one.
template <int WORDS>
struct WordSink {
    using Word = std::array<uint32_t, WORDS>;
    Ports<WORDS> ports;
    std::string name;
    Held<WORDS> now;
    std::vector<Word> words;
    std::vector<uint32_t> ends;  // end of each whole packet in `words`
    uint64_t packets = 0;        // whole ones, ever

    void drive(bool ready) { *ports.ready = ready; }
    bool sample(Fault& fault) {
        now.check(ports, name, fault);
        if (!*ports.valid || !*ports.ready) return false;
        words.push_back(now.data);
        if (!ports.last || now.last) {
            ends.push_back(words.size());
            packets++;
        }
        return true;
    }
    uint32_t length(uint32_t count) const { return count ? ends[count - 1] : 0; }
    void take(uint32_t count, uint32_t* to, uint32_t* to_ends) {
        uint32_t gone = length(count);
        std::memcpy(to, words.data(), gone * sizeof(Word));
        if (to_ends) std::memcpy(to_ends, ends.data(), count * sizeof(uint32_t));
        words.erase(words.begin(), words.begin() + gone);
        ends.erase(ends.begin(), ends.begin() + count);
        for (auto& end : ends) end -= gone;
    }
};

}  // namespace streams
