// A cell is two pure functions on SIMD lanes and a handful of integers.
//
// Slots are the pre-activations of one hidden unit. Three windows of them receive products:
//
//     slot      0 ........ h_first ........ x_gates ........ gates-late .. gates
//     W x       [---------------------------)
//     R h                  [--------------------------------)
//     R gate(h)                                              [-----------)
//
// A slot of W x and R h is one sum: bias, then x by rising index, then h by rising index. Slot s
// uses row block (s - h_first) mod x_gates of the weights as the API has them.
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
//       V: a vector, or a pair of vectors (twin.hpp)
//       a: pre-activations in, what backward reads out (activated gates, or pre-activations if the
//       activations are chosen at run time); s: previous states in, new ones out; p: per-unit
//       vectors
//   template <class V> static void backward(const V (&a)[gates], const V (&prev)[states],
//           const V (&next)[states], V (&ds)[states], V (&da)[gates], const V* p,
//           const Options<V>& by);
//       ds: gradient of the new states in, pointwise part of that of the previous states out;
//       da: gradient of the gates' activations in (zeros without dgate), of the pre-activations
//       out
//   if vectors > 0
//     template <class V> static void vector_terms(const V (&da)[gates], const V (&prev)[states],
//             const V (&next)[states], V (&sum)[vectors]);       sum += d p of this row, by fma
//   if states > 1
//     template <class V> static V renew(const V (&a)[gates], V c, const Options<V>& by);   c'
//     template <class V> static V output(const V (&a)[gates], V c, const Options<V>& by);  h' of c'
//       both read a as forward left it
//   if late > 0
//     template <class V> static V gate(V (&a)[gates], V h, const Options<V>& by);  gate(h)
//       a: pre-activations in; in the early slots what backward reads out
//     template <class V> static V gated(const V (&a)[gates], V h, const Options<V>& by);
//       gate(h) again, from a as gate left it
//     template <class V> static void gate_backward(const V (&a)[gates], V h, V du,
//             V (&ds)[states], V (&da)[gates], const Options<V>& by);  da of early slots, ds += ...
// scan/epilogue.hpp and scan/derivative.hpp call these for groups of rows and units.
// A normalised cell (norm = true) has the members that cells/norm.hpp names instead.
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
