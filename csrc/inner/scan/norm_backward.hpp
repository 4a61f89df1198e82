// Walks back with a normalised cell: dh of a step as in backward.hpp, then row by row the cell and
// the gradients through its normalisations. Leaves da of the raw products for the products of
// reduce.hpp, and beside it what each row adds to the gradients of gains and biases.
#pragma once

#include "../norm.hpp"
#include "backward.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

template <Cell C, class T>
class NormBackward : BackwardSteps<C, T> {
    using Base = BackwardSteps<C, T>;
    using Base::at_, Base::call_, Base::da, Base::dc, Base::dh, Base::dir_, Base::dy, Base::enter;
    using Base::G, Base::kSlots, Base::kStates, Base::L, Base::least, Base::previous, Base::real;
    using Base::row_, Base::rows_, Base::terms, Base::through_all, Base::XG, Base::zoned;
    using typename Base::V;

  public:
    using Base::Base;
    using Base::finish;

    void run() {
        if (call_.end == at_.steps) enter();
        for (Index s = call_.end - 1; s >= call_.begin; --s) {
            through_all(s);
            for (Index r = row_.begin; r < least(row_.end, rows_.live(s)); ++r) derive(s, r);
        }
    }

  private:
    static constexpr const V* kNone = nullptr;  // the plain cell's per-unit vectors

    // The gradient of gate activation k (in the order of the pre-activations) as it came in.
    V incoming(Index s, Index r, Index unit, int k) const {
        if (dir_.dgate == nullptr || C::kX[k] < 0) return V{};
        return take(dir_.dgate + (rows_.at(s, r) * XG + C::kX[k]) * at_.hidden + unit,
                    real(1, unit));
    }

    // From dh' of a row, in dy, to da; dh(r) holds what zoneout passed by.
    void derive(Index s, Index r) const {
        const T* saved = dir_.saved + rows_.saved(s, r);
        const NormRow<C, T> norm(saved, kSlots, dir_.pack + at_.back_bias,
                                 dir_.pack + at_.back_vectors, at_);
        if constexpr (kStates == 1)
            plain(s, r, norm);
        else
            cell(s, r, norm);
        for (int k = 0; k < G; ++k)
            through_norm(norm.slot(k), kSlots, norm.by(k), da(s, r) + k * kBlock<T>, G, at_.hidden);
    }

    // Pre-activation gradients of a vector to the gradients of each slot's LN, and to the terms.
    void spread(Index s, Index r, Index unit, const NormRow<C, T>& norm,
                const V (&d)[kNormBiases]) const {
        T *term = terms(s, r) + unit, *out = da(s, r);
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
            const V prev[1] = {previous(0, s, r, unit)}, next[1] = {};
            V state[1] = {prev[0]}, ds[1] = {load(dy(s, r) + unit)};
            norm.pre_activations(unit, a);
            C::Plain::forward(a, state, kNone, call_.options);
            for (int k = 0; k < kNormBiases; ++k) d[k] = incoming(s, r, unit, k);
            C::Plain::backward(a, prev, next, ds, d, kNone, call_.options);
            spread(s, r, unit, norm, d);
            const V old = load(dh(r) + unit);
            store(dh(r) + unit, call_.zone_h == T(0) ? ds[0] : ds[0] + old);
        }
    }

    // Until spread fills it, the row of da holds i f g o, c', its gradient by way of LN, and da_o.
    void cell(Index s, Index r, const NormRow<C, T>& norm) const {
        T *at[7], *term = terms(s, r) + G * at_.padded;
        for (int k = 0; k < 7; ++k) at[k] = da(s, r) + k * kBlock<T>;
        const T* last = dir_.pack + at_.back_vectors + G * at_.padded;
        for (Index unit = 0; unit < at_.hidden; unit += L) {
            const Index q = slot_at<T>(unit, 0, G);
            V a[kNormBiases];
            norm.pre_activations(unit, a);
            C::activate(a);
            for (int k = 0; k < kNormBiases; ++k) store(at[k] + q, a[k]);
            store(at[4] + q, C::Plain::renew(a, previous(1, s, r, unit), call_.options));
        }
        const Moments<T> by = moments(at[4], G, at_.hidden);
        for (Index unit = 0; unit < at_.hidden; unit += L) {
            const Index q = slot_at<T>(unit, 0, G);
            const V gain = load(last + unit), value = by.of(load(at[4] + q));
            const V m = fma(gain, value, load(last + at_.padded + unit));
            V da_o = incoming(s, r, unit, 3);
            const V dm = C::output_backward(load(at[3] + q), m, load(dy(s, r) + unit), da_o);
            store(term + unit, dm * value);
            store(term + at_.padded + unit, dm);
            store(at[5] + q, dm * gain);
            store(at[6] + q, da_o);
        }
        through_norm(at[4], G, by, at[5], G, at_.hidden);
        const bool cut = r < rows_.live(s + 1) && rows_.cut(s + 1, r);
        for (Index unit = 0; unit < at_.hidden; unit += L) {
            const Index q = slot_at<T>(unit, 0, G);
            V a[kNormBiases], d[kNormBiases], ds[2], old{};
            for (int k = 0; k < kNormBiases; ++k) {
                a[k] = load(at[k] + q);
                d[k] = k < 3 ? incoming(s, r, unit, k) : load(at[6] + q);
            }
            V dc_next = cut ? V{} : load(dc(r) + unit);
            if (dir_.dcell != nullptr)
                dc_next =
                    dc_next + take(dir_.dcell + rows_.at(s, r) * at_.hidden + unit, real(1, unit));
            const V fresh = zoned(1, s, r, unit, dc_next, old) + load(at[5] + q);
            C::Plain::cell_path(a, previous(1, s, r, unit), fresh, ds, d);
            store(dc(r) + unit, call_.zone_c == T(0) ? ds[1] : ds[1] + old);
            spread(s, r, unit, norm, d);
        }
    }
};

}  // namespace fusedrnn::FUSEDRNN_ISA
