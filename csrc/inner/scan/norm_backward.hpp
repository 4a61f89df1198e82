// The derivative of a normalised cell, row by row: the cell, and the gradients through its
// normalisations. It leaves da of the raw products for reduce.hpp, and beside it what each row adds
// to the gradients of gains and biases. Here too are the functions of any cell as data.
#pragma once

#include "../norm.hpp"
#include "derivative.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

template <Cell C, class T>
class NormBackward {
    using V = vec<T>;
    static constexpr int G = C::kInfo.gates, XG = C::kInfo.x_gates;
    static constexpr int kSlots = G + C::kInfo.states - 1;
    static constexpr Index L = kLanes<T>;
    static constexpr const V* kNone = nullptr;  // the plain cell's per-unit vectors

  public:
    // From dh' of a row, in dy, to da; dh(r) holds what zoneout passed by.
    static void row(const BackwardView<T>& at, Index s, Index r) { NormBackward(at).derive(s, r); }

  private:
    explicit NormBackward(const BackwardView<T>& at)
        : by_(at), at_(at.at_), call_(at.call_), dir_(at.dir_), rows_(at.rows_) {}

    // The gradient of gate activation k (in the order of the pre-activations) as it came in.
    V incoming(Index s, Index r, Index unit, int k) const {
        if (dir_.dgate == nullptr || C::kX[k] < 0) return V{};
        return take(dir_.dgate + (rows_.at(s, r) * XG + C::kX[k]) * at_.hidden + unit,
                    by_.real(1, unit));
    }

    void derive(Index s, Index r) const {
        const T* saved = dir_.saved + rows_.saved(s, r);
        const NormRow<C, T> norm(saved, kSlots, in_pack<T>(dir_.pack, at_.back_bias),
                                 in_pack<T>(dir_.pack, at_.back_vectors), at_);
        if constexpr (C::kInfo.states == 1)
            plain(s, r, norm);
        else
            cell(s, r, norm);
        for (int k = 0; k < G; ++k)
            through_norm(norm.slot(k), kSlots, norm.by(k), by_.da(s, r) + k * kBlock<T>, G,
                         at_.hidden);
    }

    // Pre-activation gradients of a vector to the gradients of each slot's LN, and to the terms.
    void spread(Index s, Index r, Index unit, const NormRow<C, T>& norm,
                const V (&d)[kNormBiases]) const {
        T *term = by_.terms(s, r) + unit, *out = by_.da(s, r);
        for (int k = 0; k < kNormBiases; ++k) {
            store(term + (C::kInfo.vectors + k) * at_.padded, d[k]);
            const int slots[2] = {C::kX[k], C::kH[k]};
            for (const int slot : slots) {
                if (slot < 0) continue;
                store(term + slot * at_.padded, d[k] * norm.value(unit, slot));
                store(out + slot_at<T>(unit, slot, G), d[k] * norm.gain(unit, slot));
            }
        }
    }

    void plain(Index s, Index r, const NormRow<C, T>& norm) const {
        for (Index unit = 0; unit < at_.hidden; unit += L) {
            V a[kNormBiases], d[kNormBiases];
            const V prev[1] = {by_.previous(0, s, r, unit)}, next[1] = {};
            V state[1] = {prev[0]}, ds[1] = {load(by_.dy(s, r) + unit)};
            norm.pre_activations(unit, a);
            C::Plain::forward(a, state, kNone, call_.options);
            for (int k = 0; k < kNormBiases; ++k) d[k] = incoming(s, r, unit, k);
            C::Plain::backward(a, prev, next, ds, d, kNone, call_.options);
            spread(s, r, unit, norm, d);
            const V old = load(by_.dh(r) + unit);
            store(by_.dh(r) + unit, call_.zone_h == T(0) ? ds[0] : ds[0] + old);
        }
    }

    // Until spread fills it, the row of da holds i f g o, c', its gradient by way of LN, and da_o.
    void cell(Index s, Index r, const NormRow<C, T>& norm) const {
        T *at[7], *term = by_.terms(s, r) + G * at_.padded;
        for (int k = 0; k < 7; ++k) at[k] = by_.da(s, r) + k * kBlock<T>;
        const T* last = in_pack<T>(dir_.pack, at_.back_vectors) + G * at_.padded;
        for (Index unit = 0; unit < at_.hidden; unit += L) {
            const Index q = slot_at<T>(unit, 0, G);
            V a[kNormBiases];
            norm.pre_activations(unit, a);
            C::activate(a);
            for (int k = 0; k < kNormBiases; ++k) store(at[k] + q, a[k]);
            store(at[4] + q, C::Plain::renew(a, by_.previous(1, s, r, unit), call_.options));
        }
        const Moments<T> by = moments(at[4], G, at_.hidden);
        for (Index unit = 0; unit < at_.hidden; unit += L) {
            const Index q = slot_at<T>(unit, 0, G);
            const V gain = load(last + unit), value = by.of(load(at[4] + q));
            const V m = fma(gain, value, load(last + at_.padded + unit));
            V da_o = incoming(s, r, unit, 3);
            const V dm = C::output_backward(load(at[3] + q), m, load(by_.dy(s, r) + unit), da_o);
            store(term + unit, dm * value);
            store(term + at_.padded + unit, dm);
            store(at[5] + q, dm * gain);
            store(at[6] + q, da_o);
        }
        through_norm(at[4], G, by, at[5], G, at_.hidden);
        const bool came = r < rows_.live(s + 1);
        for (Index unit = 0; unit < at_.hidden; unit += L) {
            const Index q = slot_at<T>(unit, 0, G);
            V a[kNormBiases], d[kNormBiases], ds[2], old{};
            for (int k = 0; k < kNormBiases; ++k) {
                a[k] = load(at[k] + q);
                d[k] = k < 3 ? incoming(s, r, unit, k) : load(at[6] + q);
            }
            const V fresh =
                by_.zoned(1, s, r, unit, by_.dc_next(s, r, unit, came), old) + load(at[5] + q);
            C::Plain::cell_path(a, by_.previous(1, s, r, unit), fresh, ds, d);
            store(by_.dc(r) + unit, call_.zone_c == T(0) ? ds[1] : ds[1] + old);
            spread(s, r, unit, norm, d);
        }
    }

    const BackwardView<T>& by_;
    const Layout& at_;
    const Backward<T>& call_;
    const BackwardDirection<T>& dir_;
    const Rows<T>& rows_;
};

// The functions of C as data.
template <Cell C, class T>
constexpr BackwardCell<T> backward_cell() {
    BackwardCell<T> cell{};
    cell.info = C::kInfo;
    if constexpr (C::kInfo.norm) {
        cell.row = NormBackward<C, T>::row;
        cell.norm_x = C::kX;
        cell.norm_h = C::kH;
    } else {
        using D = Derivative<C, T>;
        cell.derive = D::derive;
        if constexpr (C::kInfo.late > 0) {
            cell.gate = D::gate;
            cell.gated = D::gated;
        }
        if constexpr (C::kInfo.states > 1) cell.output = D::output;
        if constexpr (C::kInfo.vectors > 0) cell.terms = D::terms;
    }
    return cell;
}

}  // namespace fusedrnn::FUSEDRNN_ISA
