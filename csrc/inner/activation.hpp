// The activations that are chosen at run time, of clipped input, and their slopes, computed from
// that input. They are not inlined, so that there is not a copy of each activation in each cell.
// Source: ONNX operators RNN, GRU, LSTM (opset 22), attributes activations, alpha, beta, clip.
#pragma once

#include "kernels.hpp"
#include "math.hpp"
#include "twin.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

// e^x - 1 for x <= 0, without cancellation near 0.
template <Vector V>
FUSEDRNN_INLINE V expm1_below(V x) {
    using T = scalar_t<V>;
    const auto [field, w] = exponential<true>(max(x, splat(MathConstants<T>::underflow)));
    const V scale = power_of_two<V>(field);
    return fma(w, scale, scale - splat(T(1)));
}

// log(1 + e) for 0 <= e <= 1 as 2 atanh(s), s = e / (2 + e), by its series in s^2 <= 1/9.
template <Vector V>
FUSEDRNN_INLINE V log1p_unit(V e) {
    using T = scalar_t<V>;
    constexpr int kTerms = sizeof(T) == 4 ? 8 : 17;
    const V s = e / (e + splat(T(2))), s2 = s * s;
    V sum = splat(T(1) / T(2 * kTerms + 1));
    for (int k = kTerms - 1; k > 0; --k) sum = fma(sum, s2, splat(T(1) / T(2 * k + 1)));
    const V twice = s + s;
    return fma(twice * s2, sum, twice);
}

template <class T>
[[gnu::noinline]] vec<T> activate(vec<T> x, const ActivationOf<T>& f, T clip) {
    using V = vec<T>;
    const V zero{}, one = splat(T(1)), alpha = splat(f.alpha), beta = splat(f.beta);
    x = clamp(x, splat(-clip), splat(clip));
    switch (f.kind) {
        case Activation::kRelu:
            return relu(x);
        case Activation::kTanh:
            return tanh(x);
        case Activation::kSigmoid:
            return sigmoid(x);
        case Activation::kAffine:
            return fma(alpha, x, beta);
        case Activation::kLeakyRelu:
            return select(x < zero, alpha * x, x);
        case Activation::kThresholdedRelu:
            return select(x < alpha, zero, x);
        case Activation::kScaledTanh:
            return alpha * tanh(beta * x);
        case Activation::kHardSigmoid:
            return clamp(fma(alpha, x, beta), zero, one);
        case Activation::kElu:
            return select(x < zero, alpha * expm1_below(min(x, zero)), x);
        case Activation::kSoftsign:
            return x / (one + abs(x));
        case Activation::kSoftplus:
            return max(x, zero) + log1p_unit(exp(-abs(x)));
    }
    return x;
}

template <class T>
Twin<vec<T>> activate(Twin<vec<T>> x, const ActivationOf<T>& f, T clip) {
    return {activate(x.a, f, clip), activate(x.b, f, clip)};
}

// d activate / d x; 0 if the input was clipped.
template <class T>
[[gnu::noinline]] vec<T> slope(vec<T> x, const ActivationOf<T>& f, T clip) {
    using V = vec<T>;
    const V zero{}, one = splat(T(1)), alpha = splat(f.alpha), beta = splat(f.beta);
    const auto clipped = abs(x) > splat(clip);
    V d = one;
    switch (f.kind) {
        case Activation::kRelu:
            d = select(x > zero, one, zero);
            break;
        case Activation::kTanh:
            d = dtanh(tanh(x));
            break;
        case Activation::kSigmoid:
            d = dsigmoid(sigmoid(x));
            break;
        case Activation::kAffine:
            d = alpha;
            break;
        case Activation::kLeakyRelu:
            d = select(x > zero, one, alpha);
            break;
        case Activation::kThresholdedRelu:
            d = select(x < alpha, zero, one);
            break;
        case Activation::kScaledTanh:
            d = alpha * beta * dtanh(tanh(beta * x));
            break;
        case Activation::kHardSigmoid: {
            const V y = fma(alpha, x, beta);
            d = select(y > zero, select(y < one, alpha, zero), zero);
            break;
        }
        case Activation::kElu:
            d = select(x < zero, alpha * exp(min(x, zero)), one);
            break;
        case Activation::kSoftsign: {
            const V y = one + abs(x);
            d = one / (y * y);
            break;
        }
        case Activation::kSoftplus:
            d = sigmoid(x);
            break;
    }
    return select(clipped, zero, d);
}

}  // namespace fusedrnn::FUSEDRNN_ISA
