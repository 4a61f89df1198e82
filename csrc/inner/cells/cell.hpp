// What a cell is: two pure functions on SIMD lanes and a handful of integers.
//
// Slots are the pre-activations of one hidden unit. Two windows of them receive products:
//
//     slot      0 ........ h_first ........ x_gates ........ gates-late .. gates
//     W x       [---------------------------)
//     R h                  [--------------------------------)
//     R gate(h)                                              [-----------)
//
// A slot in both windows is one chain of fma: bias, x by rising index, then h by rising index.
// Slot s takes row block (s - h_first) mod x_gates of the weights as the API has them.
#pragma once

#include <concepts>

#include "../simd.hpp"
#include "kernels.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

template <class V>
using Options = CellOptions<scalar_t<V>>;

// A cell C has
//   static constexpr CellInfo kInfo;
//   template <class V> static void forward(V (&a)[gates], V (&s)[states], const V* p,
//           const Options<V>& by);
//       V: a vector, or two of them (twin.hpp)
//       a: pre-activations in, what backward wants to see out (activated gates, or pre-activations
//       where activations are chosen at run time); s: previous states in, new out; p: per-unit
//       vectors
//   template <class V> static void backward(const V (&a)[gates], const V (&prev)[states],
//           const V (&next)[states], V (&ds)[states], V (&da)[gates], const V* p,
//           const Options<V>& by);
//       pure; ds: gradient of the new states in, pointwise part of the previous ones' out;
//       da: gradient of the gates as outputs in (zeros), of the pre-activations out
//   where vectors > 0
//     template <class V> static void vector_terms(const V (&da)[gates], const V (&prev)[states],
//             const V (&next)[states], V (&sum)[vectors]);       sum += d p of this row, by fma
//   where states > 1
//     template <class V> static V renew(const V (&a)[gates], V c, const Options<V>& by);   c'
//     template <class V> static V output(const V (&a)[gates], V c, const Options<V>& by);  h' of c'
//       both from the a that forward left
//   where late > 0
//     template <class V> static V gate(V (&a)[gates], V h, const Options<V>& by);  early slots done
//     template <class V> static V gated(const V (&a)[gates], V h, const Options<V>& by);
//       what gate returned, from the a that it left
//     template <class V> static void gate_backward(const V (&a)[gates], V h, V du,
//             V (&ds)[states], V (&da)[gates], const Options<V>& by);  da of early slots, ds += ...
//   where another cell's weight gradients come from da in the same way (reduce.hpp)
//     using Reduced = that cell;
// A normalised cell (norm = true) has instead what norm.hpp names.
template <class C>
concept Cell = requires {
    { C::kInfo } -> std::convertible_to<const CellInfo&>;
    requires C::kInfo.gates >= 1 && (C::kInfo.gates <= kMaxGates || C::kInfo.norm);
    requires C::kInfo.states >= 1 && C::kInfo.states <= kMaxStates;
    requires C::kInfo.x_gates + C::kInfo.h_first == C::kInfo.gates ||
                         C::kInfo.h_first == C::kInfo.gates;
    requires C::kInfo.h_first + C::kInfo.late <= C::kInfo.gates;
};

}  // namespace fusedrnn::FUSEDRNN_ISA
