// LSTM and GRU (reset after) with layer normalisation. W x and R h of each gate are normalised
// separately, each with a gain. The LSTM's output path reads gc LN(c') + bc; the state that is
// carried on is c' itself.
// Source: Ba, Kiros and Hinton, Layer Normalization, 2016 (arXiv:1607.06450), supplement.
//
// Slots hold raw products, W x in [0, x_gates) and R h in [h_first, gates), both in the order of
// the API's gates. A normalised cell has
//   kX[k], kH[k]   the slots of W x and R h that pre-activation k is made of, -1 if it has none
//   Plain          the cell that it normalises, whose functions are applied to pre-activations
//   per-unit vectors: the gain of each slot; if there is a second state, gc and bc after them
// scan/norm_forward.hpp and scan/norm_backward.hpp process its rows, one at a time.
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

    // h' from o and m = gc LN(c') + bc. output_backward returns dm; da is the gradient of o's
    // activation before the call and that of its pre-activation after it.
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

// Pre-activations nx r z nh, in the order of Gru's slots.
struct GruNorm {
    static constexpr CellInfo kInfo{"gru_norm", 6, 3, 3, 0, 1, 6, true};
    static constexpr int kX[kNormBiases] = {2, 0, 1, -1}, kH[kNormBiases] = {-1, 3, 4, 5};
    using Plain = Gru;
};

}  // namespace fusedrnn::FUSEDRNN_ISA
