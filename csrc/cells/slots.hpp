// Arithmetic on a cell's integers: where slots, panels and blocks lie.
#pragma once

#include "../kernels.hpp"
#include "../simd.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

template <class T>
inline constexpr Index kBlock = kBlockBytes / static_cast<Index>(sizeof(T));

// Unit vectors that share a forward panel: all slots of each, at most four vectors together.
constexpr int panel_units(const CellInfo& cell) { return cell.gates >= 3 ? 1 : 4 / cell.gates; }

constexpr bool recurrent(const CellInfo& cell) { return cell.h_first < cell.gates; }

// Row block of the API's gate-major weights that slot s takes.
constexpr Index api_rows(const CellInfo& cell, int slot) {
    return (slot - (recurrent(cell) ? cell.h_first : 0) + cell.x_gates) % cell.x_gates;
}

template <class T>
constexpr Index vectors_of(Index n) {
    return (n + kLanes<T> - 1) / kLanes<T>;
}

// Offset of (unit, slot) in a row of 64-byte blocks [H/block][slot][block].
template <class T>
constexpr Index slot_at(Index unit, Index slot, Index slots) {
    return (unit / kBlock<T> * slots + slot) * kBlock<T> + unit % kBlock<T>;
}

}  // namespace fusedrnn::FUSEDRNN_ISA
