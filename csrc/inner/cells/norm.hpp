// LSTM and GRU (reset after) with layer normalisation: every product apart, LN(W x) and LN(R h) of
// each gate with a gain each; the LSTM's output path sees gc LN(c') + bc, the carried c is c'.
// Source: Ba, Kiros and Hinton, Layer Normalization, 2016 (arXiv:1607.06450), supplement.
//
// Slots hold raw products, W x in [0, x_gates) and R h in [h_first, gates), both in the order of
// the API's gates. A normalised cell has
//   kX[k], kH[k]   the slots that pre-activation k takes, -1 where there is none
//   per-unit vectors: the gain of each slot; with a second state gc and bc after them
// and, for pre-activations a, the functions of the cell it normalises. Rows are walked in
// scan/norm_forward.hpp and scan/norm_backward.hpp.
#pragma once

#include "gru.hpp"
#include "lstm.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

struct LstmNorm {
    static constexpr CellInfo kInfo{"lstm_norm", 8, 4, 4, 0, 2, 10, true};
    static constexpr int kX[kNormBiases] = {0, 1, 2, 3}, kH[kNormBiases] = {4, 5, 6, 7};
    using Plain = Lstm;

    template <class V>
    static void activate(V (&a)[4]) {
        a[0] = sigmoid(a[0]);
        a[1] = sigmoid(a[1]);
        a[2] = tanh(a[2]);
        a[3] = sigmoid(a[3]);
    }

    // h' of o and m = gc LN(c') + bc; and back, from dh to da_o (as a gate's gradient came in), dm.
    template <class V>
    static V output(V o, V m) {
        return o * tanh(m);
    }
    template <class V>
    static V output_backward(V o, V m, V dh, V& da) {
        const V t = tanh(m);
        da = (da + dh * t) * dsigmoid(o);
        return dh * o * dtanh(t);
    }
};

// Pre-activations nx r z nh, as Gru has them.
struct GruNorm {
    static constexpr CellInfo kInfo{"gru_norm", 6, 3, 3, 0, 1, 6, true};
    static constexpr int kX[kNormBiases] = {2, 0, 1, -1}, kH[kNormBiases] = {-1, 3, 4, 5};
    using Plain = Gru;
};

}  // namespace fusedrnn::FUSEDRNN_ISA
