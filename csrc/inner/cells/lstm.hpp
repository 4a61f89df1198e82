// LSTM, plain and with peepholes.  gates i f g o;  c' = f c + i g;  h' = o tanh(c')
// Sources: Hochreiter and Schmidhuber 1997; forget gate: Gers, Schmidhuber and Cummins 2000;
// peepholes (p_i and p_f multiply c, p_o multiplies c'): Gers and Schmidhuber 2000.
#pragma once

#include "../math.hpp"
#include "cell.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

struct Lstm {
    static constexpr CellInfo kInfo{"lstm", 4, 4, 0, 0, 2, 0};

    template <class V> static void forward(V (&a)[4], V (&s)[2], const V*, const Options<V>& by) {
        a[0] = sigmoid(a[0]);
        a[1] = sigmoid(a[1]);
        a[2] = tanh(a[2]);
        a[3] = sigmoid(a[3]);
        s[1] = renew(a, s[1], by);
        s[0] = output(a, s[1], by);
    }

    template <class V>
    static void backward(const V (&a)[4], const V (&prev)[2], const V (&next)[2], V (&ds)[2],
                         V (&da)[4], const V*, const Options<V>&) {
        const V t = tanh(next[1]);
        da[3] = (da[3] + ds[0] * t) * dsigmoid(a[3]);
        cell_path(a, prev[1], fma(ds[0] * a[3], dtanh(t), ds[1]), ds, da);
    }

    // renew is c' from the activated gates and c; output is h' from the activated gates and c'.
    template <class V>
    static V renew(const V (&a)[4], V c, const Options<V>&) {
        return fma(a[1], c, a[0] * a[2]);
    }
    template <class V>
    static V output(const V (&a)[4], V c, const Options<V>&) {
        return a[3] * tanh(c);
    }

    // Computes da and ds from dc, the whole gradient of c'. The pointwise part of the gradient of h
    // is 0, because h acts through R alone.
    template <class V>
    static void cell_path(const V (&a)[4], V c, V dc, V (&ds)[2], V (&da)[4]) {
        da[0] = (da[0] + dc * a[2]) * dsigmoid(a[0]);
        da[1] = (da[1] + dc * c) * dsigmoid(a[1]);
        da[2] = (da[2] + dc * a[0]) * dtanh(a[2]);
        ds[0] = V{};
        ds[1] = dc * a[1];
    }
};

struct LstmPeephole : Lstm {
    static constexpr CellInfo kInfo{"lstm_peephole", 4, 4, 0, 0, 2, 3};

    template <class V> static void forward(V (&a)[4], V (&s)[2], const V* p, const Options<V>& by) {
        a[0] = sigmoid(fma(p[0], s[1], a[0]));
        a[1] = sigmoid(fma(p[1], s[1], a[1]));
        a[2] = tanh(a[2]);
        s[1] = renew(a, s[1], by);
        a[3] = sigmoid(fma(p[2], s[1], a[3]));
        s[0] = output(a, s[1], by);
    }

    template <class V>
    static void backward(const V (&a)[4], const V (&prev)[2], const V (&next)[2], V (&ds)[2],
                         V (&da)[4], const V* p, const Options<V>&) {
        const V t = tanh(next[1]);
        da[3] = (da[3] + ds[0] * t) * dsigmoid(a[3]);
        const V dc = fma(da[3], p[2], fma(ds[0] * a[3], dtanh(t), ds[1]));
        cell_path(a, prev[1], dc, ds, da);
        ds[1] = fma(da[0], p[0], fma(da[1], p[1], ds[1]));
    }

    template <class V>
    static void vector_terms(const V (&da)[4], const V (&prev)[2], const V (&next)[2],
                             V (&sum)[3]) {
        sum[0] = fma(da[0], prev[1], sum[0]);
        sum[1] = fma(da[1], prev[1], sum[1]);
        sum[2] = fma(da[3], next[1], sum[2]);
    }
};

}  // namespace fusedrnn::FUSEDRNN_ISA
