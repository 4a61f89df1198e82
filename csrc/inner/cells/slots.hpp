// Arithmetic on a cell's integers: where slots, panels and blocks are stored, and which of them a
// thread works on.
#pragma once

#include "../simd.hpp"
#include "kernels.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

// The part [begin, end) of n items that belongs to one of `threads` threads.
struct Share {
    Index begin, end;
    Share(Index n, int thread, int threads)
        : begin(n * thread / threads), end(n * (thread + 1) / threads) {}
};

template <class T>
inline constexpr Index kBlock = kBlockBytes / static_cast<Index>(sizeof(T));

constexpr bool recurrent(const CellInfo& cell) { return cell.h_first < cell.gates; }

// Unit vectors of a forward panel. A panel has all slots of each, at most four vectors together.
// More than one needs products that cover all slots, which then lie one after the other.
constexpr int panel_units(const CellInfo& cell) {
    const bool whole =
        cell.x_gates == cell.gates && cell.late == 0 && (!recurrent(cell) || cell.h_first == 0);
    return whole && cell.gates < 3 ? 4 / cell.gates : 1;
}

// Which block of H rows of the API's gate-major weights belongs to a slot.
constexpr Index api_rows(const CellInfo& cell, int slot) {
    return (slot - (recurrent(cell) ? cell.h_first : 0) + cell.x_gates) % cell.x_gates;
}

template <class T>
constexpr Index vectors_of(Index n) {
    return (n + kLanes<T> - 1) / kLanes<T>;
}

// Whether slots share vectors in the last panel if its units do not fill a vector. Every slot must
// receive both W x and R h: else lanes that belong to no slot would carry products of one gate into
// another.
constexpr bool shares(const CellInfo& cell) {
    return cell.gates >= 3 && cell.x_gates == cell.gates && cell.h_first == 0 && cell.late == 0 &&
           !cell.norm;
}

// Distance in lanes between the slots of a unit vector in panel p.
template <class T>
constexpr Index pitch_of(const CellInfo& cell, Index hidden, Index p) {
    const Index left = hidden - p * kLanes<T>;
    return shares(cell) && left < kLanes<T> ? left : kLanes<T>;
}

// Vectors for each K index of panel p, if it has `slots` slots.
template <class T>
constexpr Index panel_vectors(const CellInfo& cell, Index hidden, Index p, Index slots) {
    const Index most = panel_units(cell), left = vectors_of<T>(hidden) - p * most;
    return vectors_of<T>((left < most ? left : most) * slots * pitch_of<T>(cell, hidden, p));
}

// The elements of a pack from byte `offset` on.
template <class E>
const E* in_pack(const std::byte* pack, Index offset) {
    return reinterpret_cast<const E*>(pack + offset);
}
template <class E>
E* in_pack(std::byte* pack, Index offset) {
    return reinterpret_cast<E*>(pack + offset);
}

// Offset of (unit, slot) in a row of 64-byte blocks [H/block][slot][block].
template <class T>
constexpr Index slot_at(Index unit, Index slot, Index slots) {
    return (unit / kBlock<T> * slots + slot) * kBlock<T> + unit % kBlock<T>;
}

}  // namespace fusedrnn::FUSEDRNN_ISA
