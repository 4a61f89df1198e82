// The cells with activations chosen at run time, clip, and coupled input and forget gates. They
// save pre-activations, and their backward functions start from those. The equations are those of
// elman.hpp, lstm.hpp and gru.hpp with f, g and h in place of the activations there.
// Source: ONNX operators RNN, GRU, LSTM (opset 22); coupled gates: Greff et al. 2017 (CIFG).
#pragma once

#include "../activation.hpp"
#include "cell.hpp"
#include "elman.hpp"
#include "gru.hpp"
#include "lstm.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

struct RnnChosen {
    static constexpr CellInfo kInfo{"rnn_chosen", 1, 1, 0, 0, 1, 0};

    template <class V>
    static void forward(V (&a)[1], V (&s)[1], const V*, const Options<V>& by) {
        s[0] = activate(a[0], by.f, by.clip);
    }
    template <class V>
    static void backward(const V (&a)[1], const V (&)[1], const V (&)[1], V (&ds)[1], V (&da)[1],
                         const V*, const Options<V>& by) {
        da[0] = (da[0] + ds[0]) * slope(a[0], by.f, by.clip);
        ds[0] = V{};
    }
};

// Slots i f g o; f = 1 - i if coupled. p is always given; it is zeros without peepholes.
struct LstmChosen {
    static constexpr CellInfo kInfo{"lstm_chosen", 4, 4, 0, 0, 2, 3};

    template <class V>
    static V forget(const V (&a)[4], V i, const Options<V>& by) {
        return by.coupled ? splat(scalar_t<V>(1)) - i : activate(a[1], by.f, by.clip);
    }

    template <class V>
    static void forward(V (&a)[4], V (&s)[2], const V* p, const Options<V>& by) {
        a[0] = fma(p[0], s[1], a[0]);
        a[1] = fma(p[1], s[1], a[1]);
        const V i = activate(a[0], by.f, by.clip);
        s[1] = fma(forget(a, i, by), s[1], i * activate(a[2], by.g, by.clip));
        a[3] = fma(p[2], s[1], a[3]);
        s[0] = output(a, s[1], by);
    }

    template <class V>
    static V output(const V (&a)[4], V c, const Options<V>& by) {
        return activate(a[3], by.f, by.clip) * activate(c, by.h, by.clip);
    }

    template <class V>
    static V renew(const V (&a)[4], V c, const Options<V>& by) {
        const V i = activate(a[0], by.f, by.clip);
        return fma(forget(a, i, by), c, i * activate(a[2], by.g, by.clip));
    }

    template <class V>
    static void backward(const V (&a)[4], const V (&prev)[2], const V (&next)[2], V (&ds)[2],
                         V (&da)[4], const V* p, const Options<V>& by) {
        const V i = activate(a[0], by.f, by.clip), f = forget(a, i, by);
        const V g = activate(a[2], by.g, by.clip), o = activate(a[3], by.f, by.clip);
        da[3] = fma(ds[0], activate(next[1], by.h, by.clip), da[3]) * slope(a[3], by.f, by.clip);
        const V through = fma(ds[0] * o, slope(next[1], by.h, by.clip), ds[1]);
        const V dc = fma(da[3], p[2], through);
        const V df = fma(dc, prev[1], da[1]), di = fma(dc, g, da[0]);
        da[0] = (by.coupled ? di - df : di) * slope(a[0], by.f, by.clip);
        da[1] = by.coupled ? V{} : df * slope(a[1], by.f, by.clip);
        da[2] = fma(dc, i, da[2]) * slope(a[2], by.g, by.clip);
        ds[0] = V{};
        ds[1] = fma(da[0], p[0], fma(da[1], p[1], dc * f));
    }

    template <class V>
    static void vector_terms(const V (&da)[4], const V (&prev)[2], const V (&next)[2],
                             V (&sum)[3]) {
        LstmPeephole::vector_terms(da, prev, next, sum);
    }
};

struct GruChosen {
    static constexpr CellInfo kInfo{"gru_chosen", 4, 3, 1, 0, 1, 0};

    template <class V>
    static void forward(V (&a)[4], V (&s)[1], const V*, const Options<V>& by) {
        const V z = activate(a[2], by.f, by.clip), n = candidate(a, by);
        s[0] = fma(z, s[0] - n, n);
    }
    template <class V>
    static V candidate(const V (&a)[4], const Options<V>& by) {
        return activate(fma(activate(a[1], by.f, by.clip), a[3], a[0]), by.g, by.clip);
    }
    template <class V>
    static void backward(const V (&a)[4], const V (&prev)[1], const V (&)[1], V (&ds)[1],
                         V (&da)[4], const V*, const Options<V>& by) {
        const V r = activate(a[1], by.f, by.clip), z = activate(a[2], by.f, by.clip);
        const V pre = fma(r, a[3], a[0]), n = activate(pre, by.g, by.clip);
        const V dn = (da[0] + (ds[0] - ds[0] * z)) * slope(pre, by.g, by.clip);
        da[0] = dn;
        da[1] = fma(dn, a[3], da[1]) * slope(a[1], by.f, by.clip);
        da[2] = fma(ds[0], prev[0] - n, da[2]) * slope(a[2], by.f, by.clip);
        da[3] = dn * r;
        ds[0] = ds[0] * z;
    }
};

struct GruResetBeforeChosen {
    static constexpr CellInfo kInfo{"gru_reset_before_chosen", 3, 3, 0, 1, 1, 0};

    template <class V>
    static V gate(V (&a)[3], V h, const Options<V>& by) {
        return gated(a, h, by);
    }
    template <class V>
    static V gated(const V (&a)[3], V h, const Options<V>& by) {
        return activate(a[0], by.f, by.clip) * h;
    }
    template <class V>
    static void forward(V (&a)[3], V (&s)[1], const V*, const Options<V>& by) {
        const V n = activate(a[2], by.g, by.clip);
        s[0] = fma(activate(a[1], by.f, by.clip), s[0] - n, n);
    }
    template <class V>
    static void backward(const V (&a)[3], const V (&prev)[1], const V (&)[1], V (&ds)[1],
                         V (&da)[3], const V*, const Options<V>& by) {
        const V z = activate(a[1], by.f, by.clip), n = activate(a[2], by.g, by.clip);
        da[2] = (da[2] + (ds[0] - ds[0] * z)) * slope(a[2], by.g, by.clip);
        da[1] = fma(ds[0], prev[0] - n, da[1]) * slope(a[1], by.f, by.clip);
        ds[0] = ds[0] * z;
    }
    template <class V>
    static void gate_backward(const V (&a)[3], V h, V du, V (&ds)[1], V (&da)[3],
                              const Options<V>& by) {
        da[0] = fma(du, h, da[0]) * slope(a[0], by.f, by.clip);
        ds[0] = fma(du, activate(a[0], by.f, by.clip), ds[0]);
    }
};

}  // namespace fusedrnn::FUSEDRNN_ISA
