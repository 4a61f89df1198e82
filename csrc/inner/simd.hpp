// The SIMD vocabulary: vectors of one native width, and the few operations that GNU vector
// operators (+ - * / and comparisons) do not provide. No other file may use intrinsics.
//
// Results are the same on every instruction set with fma (avx2, avx512, neon): each operation is
// exact or correctly rounded once, and treats NaN and signed zeros alike everywhere.
#pragma once

#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#if !defined(FUSEDRNN_ISA) || !defined(FUSEDRNN_VECTOR_BYTES)
#error "csrc/inner/isa/*.cpp define FUSEDRNN_ISA and FUSEDRNN_VECTOR_BYTES before this header"
#endif
#if defined(__FAST_MATH__) || defined(__ASSOCIATIVE_MATH__) || __FINITE_MATH_ONLY__ > 0
#error "fusedrnn promises bits: build without -ffast-math and the options it stands for"
#endif

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif
#if FUSEDRNN_VECTOR_BYTES == 64 && defined(__AVX512F__) && defined(__AVX512BW__) && \
    defined(__AVX512DQ__) && defined(__AVX512VL__) && defined(__FMA__)
#define FUSEDRNN_MM(op) _mm512_##op
#elif FUSEDRNN_VECTOR_BYTES == 32 && defined(__AVX2__) && defined(__FMA__)
#define FUSEDRNN_MM(op) _mm256_##op
#elif FUSEDRNN_VECTOR_BYTES == 16 && defined(__x86_64__)
#define FUSEDRNN_MM(op) _mm_##op
#elif FUSEDRNN_VECTOR_BYTES != 16 || !defined(__aarch64__)
#error "machine or flags (-mavx2 -mfma, -mavx512{f,bw,dq,vl}) do not fit FUSEDRNN_VECTOR_BYTES"
#endif

#define FUSEDRNN_INLINE [[gnu::always_inline]] inline

#if defined(__clang__)
#define FUSEDRNN_UNROLL _Pragma("clang loop unroll(full)")
#else
#define FUSEDRNN_UNROLL _Pragma("GCC unroll 32")
#endif

// The body of an operation whose intrinsic differs by the element type.
#define FUSEDRNN_BY_TYPE(type, for_float, for_double) \
    if constexpr (std::same_as<type, float>)          \
        return for_float;                             \
    else                                              \
        return for_double

namespace fusedrnn::FUSEDRNN_ISA {

inline constexpr int kVectorBytes = FUSEDRNN_VECTOR_BYTES;

// Whether fma() rounds once. SSE2 has no fma, and the code for it uses none under -march=native
// either.
#if FUSEDRNN_VECTOR_BYTES > 16 || defined(__aarch64__)
inline constexpr bool kHasFma = true;
#else
inline constexpr bool kHasFma = false;
#endif

template <class T>
struct VectorOf {
    typedef T type __attribute__((vector_size(FUSEDRNN_VECTOR_BYTES)));
};

template <class T>
using vec = typename VectorOf<T>::type;

template <class T>
inline constexpr int kLanes = kVectorBytes / static_cast<int>(sizeof(T));

template <class V>
struct Twin;  // a pair of vectors, see twin.hpp

template <class V>
concept Single = std::same_as<V, vec<float>> || std::same_as<V, vec<double>>;
template <class V>
concept Vector =
    Single<V> || std::same_as<V, Twin<vec<float>>> || std::same_as<V, Twin<vec<double>>>;

template <class V>
using scalar_t =
    std::conditional_t<std::same_as<V, vec<float>> || std::same_as<V, Twin<vec<float>>>, float,
                       double>;

// The result of a comparison of two V: each lane is all ones (true) or zero.
template <Vector V>
using mask_t = decltype(V{} < V{});

// V with unsigned lanes of the same width, for work on the bits of floating-point numbers.
template <Vector V>
using bits_t = std::conditional_t<
    Single<V>, vec<std::conditional_t<sizeof(scalar_t<V>) == 4, std::uint32_t, std::uint64_t>>,
    Twin<vec<std::conditional_t<sizeof(scalar_t<V>) == 4, std::uint32_t, std::uint64_t>>>>;

template <Single V>
FUSEDRNN_INLINE bits_t<V> to_bits(V v) {
    return reinterpret_cast<bits_t<V>>(v);
}

template <Vector V>
FUSEDRNN_INLINE V from_bits(bits_t<V> b) {
    if constexpr (Single<V>)
        return reinterpret_cast<V>(b);
    else
        return {from_bits<decltype(V::a)>(b.a), from_bits<decltype(V::b)>(b.b)};
}

// An intrinsic, because GCC 12 inserts lane by lane if a loop sets the lanes (a tile then has a
// ninth of its speed on AVX-512).
template <class T>
FUSEDRNN_INLINE vec<T> splat(T x) {
#if defined(FUSEDRNN_MM)
    FUSEDRNN_BY_TYPE(T, FUSEDRNN_MM(set1_ps)(x), FUSEDRNN_MM(set1_pd)(x));
#else
    FUSEDRNN_BY_TYPE(T, vdupq_n_f32(x), vdupq_n_f64(x));
#endif
}

template <Single V>
FUSEDRNN_INLINE V select(mask_t<V> mask, V if_true, V if_false) {
    return mask ? if_true : if_false;
}

// True in lanes [0, n); n may be below 0 or above the number of lanes.
template <Single V>
FUSEDRNN_INLINE mask_t<V> lane_mask(int n) {
    mask_t<V> index{};
    for (int i = 0; i < kLanes<scalar_t<V>>; ++i) index[i] = i;
    return index < index - index + n;
}

template <Single V>
FUSEDRNN_INLINE V first_lanes(V v, int n) {
    return select(lane_mask<V>(n), v, V{});
}

// Loads and stores need no alignment beyond T's.
template <class T>
FUSEDRNN_INLINE vec<T> load(const T* from) {
    vec<T> v;
    __builtin_memcpy(&v, from, sizeof v);
    return v;
}

template <class T>
FUSEDRNN_INLINE void store(T* to, vec<std::type_identity_t<T>> v) {
    __builtin_memcpy(to, &v, sizeof v);
}

// The same for numbers that memory holds in another type: kLanes<T> of them, each converted.
template <class T, class W>
FUSEDRNN_INLINE vec<T> load_as(const W* from) {
    if constexpr (std::same_as<T, W>) {
        return load(from);
    } else {
        typedef W narrow __attribute__((vector_size(kLanes<T> * sizeof(W))));
        narrow v;
        __builtin_memcpy(&v, from, sizeof v);
        return __builtin_convertvector(v, vec<T>);
    }
}

template <class T, class W>
FUSEDRNN_INLINE void store_as(W* to, vec<T> v) {
    if constexpr (std::same_as<T, W>) {
        store(to, v);
    } else {
        typedef W narrow __attribute__((vector_size(kLanes<T> * sizeof(W))));
        const auto converted = __builtin_convertvector(v, narrow);
        __builtin_memcpy(to, &converted, sizeof converted);
    }
}

// v, which the compiler must load only once: GCC 12 otherwise makes a load that three operations
// use a memory operand of each of them, and they wait for the load ports.
template <Single V>
FUSEDRNN_INLINE V in_register(V v) {
#if defined(__x86_64__)
    asm("" : "+v"(v));
#else
    asm("" : "+w"(v));
#endif
    return v;
}

// Loads lanes [0, n) and sets the others to 0. Memory from n on is not accessed, so it may be
// unmapped.
template <class T>
FUSEDRNN_INLINE vec<T> load_n(const T* from, int n) {
#if FUSEDRNN_VECTOR_BYTES == 64
    const unsigned lanes = n < 0 ? 0 : n < kLanes<T> ? (1U << n) - 1 : (1U << kLanes<T>)-1;
    FUSEDRNN_BY_TYPE(T, _mm512_maskz_loadu_ps(static_cast<__mmask16>(lanes), from),
                     _mm512_maskz_loadu_pd(static_cast<__mmask8>(lanes), from));
#elif FUSEDRNN_VECTOR_BYTES == 32
    const auto lanes = reinterpret_cast<__m256i>(lane_mask<vec<T>>(n));
    FUSEDRNN_BY_TYPE(T, _mm256_maskload_ps(from, lanes), _mm256_maskload_pd(from, lanes));
#else
    vec<T> v{};
#pragma GCC unroll 4
    for (int i = 0; i < kLanes<T>; ++i)
        if (i < n) v[i] = from[i];
    return v;
#endif
}

template <class T>
FUSEDRNN_INLINE void store_n(T* to, vec<std::type_identity_t<T>> v, int n) {
#if FUSEDRNN_VECTOR_BYTES == 64
    const unsigned lanes = n < 0 ? 0 : n < kLanes<T> ? (1U << n) - 1 : (1U << kLanes<T>)-1;
    FUSEDRNN_BY_TYPE(T, _mm512_mask_storeu_ps(to, static_cast<__mmask16>(lanes), v),
                     _mm512_mask_storeu_pd(to, static_cast<__mmask8>(lanes), v));
#elif FUSEDRNN_VECTOR_BYTES == 32
    const auto lanes = reinterpret_cast<__m256i>(lane_mask<vec<T>>(n));
    FUSEDRNN_BY_TYPE(T, _mm256_maskstore_ps(to, lanes, v), _mm256_maskstore_pd(to, lanes, v));
#else
#pragma GCC unroll 4
    for (int i = 0; i < kLanes<T>; ++i)
        if (i < n) to[i] = v[i];
#endif
}

template <class T, class W>
FUSEDRNN_INLINE void store_n_as(W* to, vec<T> v, int n) {
    if constexpr (std::same_as<T, W>)
        store_n(to, v, n);
    else
        for (int i = 0; i < n; ++i) to[i] = static_cast<W>(v[i]);
}

// a * b + c, rounded once if the instruction set has fma. An intrinsic, because a loop of
// __builtin_fma over the lanes costs a quarter of the speed under GCC 12.
template <Single V>
FUSEDRNN_INLINE V fma(V a, V b, V c) {
#if FUSEDRNN_VECTOR_BYTES > 16
    FUSEDRNN_BY_TYPE(scalar_t<V>, FUSEDRNN_MM(fmadd_ps)(a, b, c), FUSEDRNN_MM(fmadd_pd)(a, b, c));
#elif defined(__aarch64__)
    FUSEDRNN_BY_TYPE(scalar_t<V>, vfmaq_f32(c, a, b), vfmaq_f64(c, a, b));
#else
    return a * b + c;
#endif
}

// The smaller (larger) of x and `bound`, which must not be NaN. The result is x if x is NaN or if
// both are equal (x = -0 with bound +0 gives -0): x86 does so with this order of operands, and the
// other instruction sets do the same.
// On AVX-512 the masked intrinsics compile to the plain instructions; GCC 12 warns about the
// intrinsics of those (-Wuninitialized).
template <Single V>
FUSEDRNN_INLINE V min(V x, V bound) {
#if FUSEDRNN_VECTOR_BYTES == 64
    FUSEDRNN_BY_TYPE(scalar_t<V>, _mm512_maskz_min_ps(0xffff, bound, x),
                     _mm512_maskz_min_pd(0xff, bound, x));
#elif defined(FUSEDRNN_MM)
    FUSEDRNN_BY_TYPE(scalar_t<V>, FUSEDRNN_MM(min_ps)(bound, x), FUSEDRNN_MM(min_pd)(bound, x));
#else
    return select<V>(bound < x, bound, x);
#endif
}

template <Single V>
FUSEDRNN_INLINE V max(V x, V bound) {
#if FUSEDRNN_VECTOR_BYTES == 64
    FUSEDRNN_BY_TYPE(scalar_t<V>, _mm512_maskz_max_ps(0xffff, bound, x),
                     _mm512_maskz_max_pd(0xff, bound, x));
#elif defined(FUSEDRNN_MM)
    FUSEDRNN_BY_TYPE(scalar_t<V>, FUSEDRNN_MM(max_ps)(bound, x), FUSEDRNN_MM(max_pd)(bound, x));
#else
    return select<V>(bound > x, bound, x);
#endif
}

template <Single V>
FUSEDRNN_INLINE V clamp(V x, V low, V high) {
    return min(max(x, low), high);
}

template <Single V>
FUSEDRNN_INLINE V relu(V x) {
    return max(x, V{});
}

template <Single V>
FUSEDRNN_INLINE V abs(V x) {
    return from_bits<V>(to_bits(x) & ~to_bits(splat(scalar_t<V>(-0.0))));
}

template <Single V>
FUSEDRNN_INLINE V minus_abs(V x) {
    return from_bits<V>(to_bits(x) | to_bits(splat(scalar_t<V>(-0.0))));
}

// `magnitude`, whose sign bit must be clear, with the sign of x.
template <Single V>
FUSEDRNN_INLINE V with_sign_of(V x, V magnitude) {
    return from_bits<V>(to_bits(magnitude) | (to_bits(x) & to_bits(splat(scalar_t<V>(-0.0)))));
}

template <Single V>
FUSEDRNN_INLINE V sqrt(V x) {
#if FUSEDRNN_VECTOR_BYTES == 64
    FUSEDRNN_BY_TYPE(scalar_t<V>, _mm512_maskz_sqrt_ps(0xffff, x), _mm512_maskz_sqrt_pd(0xff, x));
#elif defined(FUSEDRNN_MM)
    FUSEDRNN_BY_TYPE(scalar_t<V>, FUSEDRNN_MM(sqrt_ps)(x), FUSEDRNN_MM(sqrt_pd)(x));
#else
    FUSEDRNN_BY_TYPE(scalar_t<V>, vsqrtq_f32(x), vsqrtq_f64(x));
#endif
}

// Loads a vector from its 16-byte parts: part b comes from `from` + b * apart. On x86, shuffles
// across these parts are slow; load_columns uses this function to avoid them.
template <class T>
FUSEDRNN_INLINE vec<T> load_blocks(const T* from, std::ptrdiff_t apart) {
#if FUSEDRNN_VECTOR_BYTES == 64
    if constexpr (std::same_as<T, float>) {
        const auto a = _mm512_castps128_ps512(_mm_loadu_ps(from));
        const auto b = _mm512_insertf32x4(a, _mm_loadu_ps(from + apart), 1);
        const auto c = _mm512_insertf32x4(b, _mm_loadu_ps(from + 2 * apart), 2);
        return _mm512_insertf32x4(c, _mm_loadu_ps(from + 3 * apart), 3);
    } else {
        const auto a = _mm512_castpd128_pd512(_mm_loadu_pd(from));
        const auto b = _mm512_insertf64x2(a, _mm_loadu_pd(from + apart), 1);
        const auto c = _mm512_insertf64x2(b, _mm_loadu_pd(from + 2 * apart), 2);
        return _mm512_insertf64x2(c, _mm_loadu_pd(from + 3 * apart), 3);
    }
#elif FUSEDRNN_VECTOR_BYTES == 32
    FUSEDRNN_BY_TYPE(T,
                     _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(from)),
                                          _mm_loadu_ps(from + apart), 1),
                     _mm256_insertf128_pd(_mm256_castpd128_pd256(_mm_loadu_pd(from)),
                                          _mm_loadu_pd(from + apart), 1));
#else
    static_cast<void>(apart);
    return load(from);
#endif
}

// Within each 16-byte part: the lanes of the lower (upper) half, alternately from a and from b.
template <Single V>
FUSEDRNN_INLINE V zip_low(V a, V b) {
#if FUSEDRNN_VECTOR_BYTES == 64
    FUSEDRNN_BY_TYPE(scalar_t<V>, _mm512_maskz_unpacklo_ps(0xffff, a, b),
                     _mm512_maskz_unpacklo_pd(0xff, a, b));
#elif defined(FUSEDRNN_MM)
    FUSEDRNN_BY_TYPE(scalar_t<V>, FUSEDRNN_MM(unpacklo_ps)(a, b), FUSEDRNN_MM(unpacklo_pd)(a, b));
#else
    FUSEDRNN_BY_TYPE(scalar_t<V>, vzip1q_f32(a, b), vzip1q_f64(a, b));
#endif
}

template <Single V>
FUSEDRNN_INLINE V zip_high(V a, V b) {
#if FUSEDRNN_VECTOR_BYTES == 64
    FUSEDRNN_BY_TYPE(scalar_t<V>, _mm512_maskz_unpackhi_ps(0xffff, a, b),
                     _mm512_maskz_unpackhi_pd(0xff, a, b));
#elif defined(FUSEDRNN_MM)
    FUSEDRNN_BY_TYPE(scalar_t<V>, FUSEDRNN_MM(unpackhi_ps)(a, b), FUSEDRNN_MM(unpackhi_pd)(a, b));
#else
    FUSEDRNN_BY_TYPE(scalar_t<V>, vzip2q_f32(a, b), vzip2q_f64(a, b));
#endif
}

// Loads a transposed square of kLanes rows that are `row` elements apart: lane i of m[j] is element
// j of row i. Each 16-byte part is loaded to its place, so shuffles stay within the parts.
template <class T>
FUSEDRNN_INLINE void load_columns(const T* from, std::ptrdiff_t row, vec<T> (&m)[kLanes<T>]) {
    constexpr int kIn = 16 / static_cast<int>(sizeof(T));  // lanes of a 16-byte part
    // A few rows are read completely before the next ones, because rows that are a power of two
    // apart share a set of L1.
    FUSEDRNN_UNROLL for (int r = 0; r < kIn; ++r)
        FUSEDRNN_UNROLL for (int j = 0; j < kLanes<T>; j += kIn) m[j + r] =
            load_blocks(from + r * row + j, kIn * row);
    if constexpr (kIn == 4) FUSEDRNN_UNROLL for (int j = 0; j < kLanes<T>; ++j) if (j % 4 < 2) {
            const vec<T> a = m[j], b = m[j + 2];
            m[j] = zip_low(a, b);
            m[j + 2] = zip_high(a, b);
        }
    FUSEDRNN_UNROLL for (int j = 0; j < kLanes<T>; j += 2) {
        const vec<T> a = m[j], b = m[j + 1];
        m[j] = zip_low(a, b);
        m[j + 1] = zip_high(a, b);
    }
}

}  // namespace fusedrnn::FUSEDRNN_ISA

#undef FUSEDRNN_BY_TYPE
#undef FUSEDRNN_MM
