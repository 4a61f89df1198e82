// Elman's network, h' = f(W x + R h + b), and the dense layer, which is the same without R h.
// Source: J. L. Elman, Finding structure in time, Cognitive Science 14 (1990).
#pragma once

#include "../math.hpp"
#include "cell.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

struct Tanh {
    template <class V> static V apply(V a) { return tanh(a); }
    template <class V> static V slope(V y) { return dtanh(y); }
};
struct Sigmoid {
    template <class V> static V apply(V a) { return sigmoid(a); }
    template <class V> static V slope(V y) { return dsigmoid(y); }
};
struct Relu {
    template <class V> static V apply(V a) { return relu(a); }
    template <class V> static V slope(V y) { return select(y > V{}, V{} + 1, V{}); }
};
struct Identity {
    template <class V> static V apply(V a) { return a; }
    template <class V> static V slope(V) { return V{} + 1; }
};

inline constexpr CellInfo kRnnTanh{"rnn_tanh", 1, 1, 0, 0, 1, 0};
inline constexpr CellInfo kRnnRelu{"rnn_relu", 1, 1, 0, 0, 1, 0};
inline constexpr CellInfo kRnnSigmoid{"rnn_sigmoid", 1, 1, 0, 0, 1, 0};
inline constexpr CellInfo kRnnIdentity{"rnn_identity", 1, 1, 0, 0, 1, 0};
inline constexpr CellInfo kDense{"dense", 1, 1, 1, 0, 1, 0};

template <class F, const CellInfo& Info>
struct ElmanCell {
    static constexpr CellInfo kInfo = Info;

    template <class V> static void forward(V (&a)[1], V (&s)[1], const V*, const Options<V>&) {
        a[0] = F::apply(a[0]);
        s[0] = a[0];
    }
    template <class V>
    static void backward(const V (&a)[1], const V (&)[1], const V (&)[1], V (&ds)[1], V (&da)[1],
                         const V*, const Options<V>&) {
        da[0] = (da[0] + ds[0]) * F::slope(a[0]);
        ds[0] = V{};
    }
};

}  // namespace fusedrnn::FUSEDRNN_ISA
