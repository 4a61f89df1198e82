// exp, sigmoid and tanh on vectors, and derivatives from activated values.
//
// Each function has one path for every instruction set, and none divides: a polynomial approximates
// 1 / (1 + e), and the residual of the quotient, computed by fma, corrects it. Errors are below 2
// ULP (4 without fma), and the bits are the same on every instruction set with fma.
//
// Kernels run with flush-to-zero. If the exact result is below the normal numbers, a function
// returns it or 0; no other result depends on a number that small.
#pragma once

#include "simd.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

// docs/coefficients.py derives the hexadecimal constants.
template <class T>
struct MathConstants;

template <>
struct MathConstants<float> {
    static constexpr int mantissa_bits = 23;
    static constexpr float bias = 127.0F;
    static constexpr float underflow = -88.0F;  // e^x is below the normal numbers from here down
    static constexpr float overflow = 89.0F;
    static constexpr float tanh_is_one = 9.5F;
    static constexpr float log2_e = 0x1.715476p+0F;
    static constexpr float ln2_high = 0x1.62e4p-1F;
    static constexpr float ln2_low = 0x1.7f7d1cp-20F;
    // (e^r - 1 - r) / r^2, |r| <= ln(2)/2, relative to e^r - 1
    // largest relative error 2^-25.7
    static constexpr float exp_second[] = {0x1.fffffep-2F, 0x1.5554b2p-3F, 0x1.55566ep-5F,
                                           0x1.12267cp-7F, 0x1.6bee08p-10F};
    // 1 / (1 + e), 0 <= e <= 1; exact at 0
    // largest relative error 2^-14.0
    static constexpr float reciprocal_plus[] = {0x1p+0F,         -0x1.fe9f22p-1F, 0x1.eb160cp-1F,
                                                -0x1.912b7cp-1F, 0x1.b91c0ap-2F,  -0x1.beea96p-4F};
    // 1 / (2 - m), 0 <= m <= 1; exact at 0
    // largest relative error 2^-14.2
    static constexpr float reciprocal_minus[] = {0x1p-1F,        0x1.0147cep-2F, 0x1.b9f7e6p-4F,
                                                 0x1.158db4p-3F, -0x1.8999ap-4F, 0x1.9f2d88p-4F};
};

template <>
struct MathConstants<double> {
    static constexpr int mantissa_bits = 52;
    static constexpr double bias = 1023.0;
    static constexpr double underflow = -709.0;
    static constexpr double overflow = 710.0;
    static constexpr double tanh_is_one = 19.5;
    static constexpr double log2_e = 0x1.71547652b82fep+0;
    static constexpr double ln2_high = 0x1.62e42fefa38p-1;
    static constexpr double ln2_low = 0x1.ef35793c7673p-45;
    // (e^r - 1 - r) / r^2, |r| <= ln(2)/2, relative to e^r - 1
    // largest relative error 2^-58.8
    static constexpr double exp_second[] = {0x1p-1,
                                            0x1.5555555555559p-3,
                                            0x1.555555555554p-5,
                                            0x1.111111110f7d9p-7,
                                            0x1.6c16c16c1eb18p-10,
                                            0x1.a01a01af7a591p-13,
                                            0x1.a01a017ca3bfap-16,
                                            0x1.71ddf94c14ecdp-19,
                                            0x1.27e53561c993bp-22,
                                            0x1.af5d298c4c309p-26,
                                            0x1.1ee8a41f2592ep-29};
    // 1 / (1 + e), 0 <= e <= 1; exact at 0
    // largest relative error 2^-14.0
    static constexpr double reciprocal_plus[] = {0x1p+0,
                                                 -0x1.fe9f22b06fab4p-1,
                                                 0x1.eb160bdcc8ff6p-1,
                                                 -0x1.912b7b1a9762dp-1,
                                                 0x1.b91c0a42b4898p-2,
                                                 -0x1.beea95fd95269p-4};
    // 1 / (2 - m), 0 <= m <= 1; exact at 0
    // largest relative error 2^-14.2
    static constexpr double reciprocal_minus[] = {0x1p-1,
                                                  0x1.0147ce2511fabp-2,
                                                  0x1.b9f7e5423c786p-4,
                                                  0x1.158db41e8639bp-3,
                                                  -0x1.8999a0bb0ea84p-4,
                                                  0x1.9f2d8887ef3cep-4};
};

// c[i] + c[i + 1] x + c[i + 2] x^2 + ... The terms are taken in pairs, because a Horner chain in
// x2 = x * x has half the latency of one in x.
template <std::size_t i = 0, Vector V, std::size_t N>
FUSEDRNN_INLINE V polynomial(V x, V x2, const scalar_t<V> (&c)[N]) {
    if constexpr (i + 1 == N) {
        return splat(c[i]);
    } else {
        const V pair = fma(splat(c[i + 1]), x, splat(c[i]));
        if constexpr (i + 2 == N)
            return pair;
        else
            return fma(polynomial<i + 2>(x, x2, c), x2, pair);
    }
}

// e^x = 2^n (1 + w). The exponent field of 2^n is in the lowest bits of `field`.
template <Vector V>
struct Exponential {
    bits_t<V> field;
    V w;
};

// e^x as an Exponential. If `careful`, two more operations keep the rounding error of r out of w,
// except in second order.
template <bool careful, Vector V>
FUSEDRNN_INLINE Exponential<V> exponential(V x) {
    using T = scalar_t<V>;
    using C = MathConstants<T>;
    // Adding 1.5 * 2^mantissa_bits rounds to an integer and leaves it in the lowest bits. The same
    // addition adds the bias of the exponent.
    constexpr T magic = T(3ULL << (C::mantissa_bits - 1)) + C::bias;
    const V shifted = fma(x, splat(C::log2_e), splat(magic));
    const V n = shifted - splat(magic);
    const V high = fma(n, splat(-C::ln2_high), x);  // exact
    const V r = fma(n, splat(-C::ln2_low), high);
    const V r2 = r * r;
    const V second = polynomial(r, r2, C::exp_second);
    if constexpr (careful)
        return {to_bits(shifted), high + fma(second, r2, n * splat(-C::ln2_low))};
    else
        return {to_bits(shifted), fma(second, r2, r)};
}

template <Vector V>
FUSEDRNN_INLINE V power_of_two(bits_t<V> field) {
    return from_bits<V>(field << MathConstants<scalar_t<V>>::mantissa_bits);
}

// scale (1 + w). Without fma, 1 + w is computed first, because the product scale * w could be
// flushed to zero.
template <Vector V>
FUSEDRNN_INLINE V scaled(V w, V scale) {
    if constexpr (kHasFma)
        return fma(w, scale, scale);
    else
        return (w + splat(scalar_t<V>(1))) * scale;
}

// a / (1 + e) for 0 <= e <= 1 and a = 1, e or 1 - e, for which a - q is exact. r approximates
// 1 / (1 + e). If a is tiny, r must be exact: then q needs no correction, and it does not matter
// that the residual may be flushed to zero.
template <Vector V>
FUSEDRNN_INLINE V quotient(V a, V e, V r) {
    const V one = splat(scalar_t<V>(1));
    if constexpr (sizeof(scalar_t<V>) == 8) r = fma(fma(-r, e, one - r), r, r);
    const V q = a * r;
    return fma(fma(-q, e, a - q), r, q);
}

template <Vector V>
FUSEDRNN_INLINE V exp(V x) {
    using C = MathConstants<scalar_t<V>>;
    const auto [field, w] = exponential<false>(clamp(x, splat(C::underflow), splat(C::overflow)));
    // For x > 0, half the result is computed and then doubled, because 2^n can overflow even if
    // 2^n (1 + w) does not.
    const mask_t<V> up = x > V{};
    const V e = scaled(w, power_of_two<V>(up ? field - 1 : field));
    return select(up, e + e, e);
}

template <Vector V>
FUSEDRNN_INLINE V sigmoid(V x) {
    using C = MathConstants<scalar_t<V>>;
    const V one = splat(scalar_t<V>(1));
    const auto [field, w] = exponential<false>(max(minus_abs(x), splat(C::underflow)));
    const V e = scaled(w, power_of_two<V>(field));
    return quotient(select(x < V{}, e, one), e, polynomial(e, e * e, C::reciprocal_plus));
}

// tanh |x| = m / (1 + e) with e = exp(-2|x|) and m = 1 - e, which is computed from w without
// cancellation.
template <Vector V>
FUSEDRNN_INLINE V tanh(V x) {
    using T = scalar_t<V>;
    using C = MathConstants<T>;
    const V y = max(minus_abs(x), splat(-C::tanh_is_one));
    const auto [field, w] = exponential<true>(y + y);
    const V scale = power_of_two<V>(field);
    const V m = fma(-w, scale, splat(T(1)) - scale);
    const V r = polynomial(m, m * m, C::reciprocal_minus);
    return with_sign_of(x, quotient(m, scaled(w, scale), r));
}

// Derivatives of sigmoid and tanh, from the activated values.
template <Vector V>
FUSEDRNN_INLINE V dsigmoid(V s) {
    return s * (splat(scalar_t<V>(1)) - s);
}

template <Vector V>
FUSEDRNN_INLINE V dtanh(V t) {
    return fma(-t, t, splat(scalar_t<V>(1)));
}

}  // namespace fusedrnn::FUSEDRNN_ISA
