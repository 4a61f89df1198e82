// GRU with the reset gate after the product (PyTorch, cuDNN, the default of Keras) and before it
// (the paper, the default of ONNX).  h' = (1 - z) n + z h, so z = 1 keeps the old state.
// Source: Cho et al., Learning phrase representations using RNN encoder-decoder, EMNLP 2014.
#pragma once

#include "../math.hpp"
#include "cell.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

// Slots nx r z nh. W x and R h of n are separate sums, because n = tanh(nx + r nh).
struct Gru {
    static constexpr CellInfo kInfo{"gru", 4, 3, 1, 0, 1, 0};

    template <class V> static void forward(V (&a)[4], V (&s)[1], const V*, const Options<V>&) {
        a[1] = sigmoid(a[1]);
        a[2] = sigmoid(a[2]);
        a[0] = tanh(fma(a[1], a[3], a[0]));
        s[0] = fma(a[2], s[0] - a[0], a[0]);
    }

    template <class V>
    static void backward(const V (&a)[4], const V (&prev)[1], const V (&)[1], V (&ds)[1],
                         V (&da)[4], const V*, const Options<V>&) {
        const V dn = (da[0] + (ds[0] - ds[0] * a[2])) * dtanh(a[0]);
        da[0] = dn;
        da[1] = (da[1] + dn * a[3]) * dsigmoid(a[1]);
        da[2] = (da[2] + ds[0] * (prev[0] - a[0])) * dsigmoid(a[2]);
        da[3] = dn * a[1];
        ds[0] = ds[0] * a[2];
    }
};

// Slots r z n. n receives R (r h), so a step has two phases.
struct GruResetBefore {
    static constexpr CellInfo kInfo{"gru_reset_before", 3, 3, 0, 1, 1, 0};

    template <class V> static V gate(V (&a)[3], V h, const Options<V>& by) {
        a[0] = sigmoid(a[0]);
        a[1] = sigmoid(a[1]);
        return gated(a, h, by);
    }
    template <class V> static V gated(const V (&a)[3], V h, const Options<V>&) { return a[0] * h; }

    template <class V> static void forward(V (&a)[3], V (&s)[1], const V*, const Options<V>&) {
        a[2] = tanh(a[2]);
        s[0] = fma(a[1], s[0] - a[2], a[2]);
    }

    template <class V>
    static void backward(const V (&a)[3], const V (&prev)[1], const V (&)[1], V (&ds)[1],
                         V (&da)[3], const V*, const Options<V>&) {
        da[2] = (da[2] + (ds[0] - ds[0] * a[1])) * dtanh(a[2]);
        da[1] = (da[1] + ds[0] * (prev[0] - a[2])) * dsigmoid(a[1]);
        ds[0] = ds[0] * a[1];
    }

    template <class V>
    static void gate_backward(const V (&a)[3], V h, V du, V (&ds)[1], V (&da)[3],
                              const Options<V>&) {
        da[0] = (da[0] + du * h) * dsigmoid(a[0]);
        ds[0] = fma(du, a[0], ds[0]);
    }
};

}  // namespace fusedrnn::FUSEDRNN_ISA
