// Compares csrc/inner/simd.hpp with scalar code, lane by lane and bit by bit, and checks the values
// of csrc/inner/math.hpp that are exact. run.sh builds this once per ISA.
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <limits>
#include <type_traits>

#include "inner/math.hpp"

namespace {

namespace kernel = fusedrnn::FUSEDRNN_ISA;

int failures = 0;

template <class T>
using Bits = std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>;

template <class T>
void expect_lane(const char* what, int line, int lane, T got, T want) {
    const bool same = std::isnan(want)
                          ? std::isnan(got)
                          : std::bit_cast<Bits<T>>(got) == std::bit_cast<Bits<T>>(want);
    if (!same && failures++ < 20)
        std::printf("line %d: %s, lane %d: %a, expected %a\n", line, what, lane, double(got),
                    double(want));
}

// Expects that every lane of the vector `got` equals `want`, an expression in the lane number i.
#define EXPECT(got, want)                                                          \
    do {                                                                           \
        const auto vector = (got);                                                 \
        for (int i = 0; i < kernel::kLanes<T>; ++i)                                \
            expect_lane<T>(#got, __LINE__, i, static_cast<T>(vector[i]), T(want)); \
    } while (false)

#define EXPECT_TRUE(condition)                                                                   \
    do {                                                                                         \
        if (!(condition) && failures++ < 20) std::printf("line %d: %s\n", __LINE__, #condition); \
    } while (false)

template <class T>
constexpr std::array<T, 17> kValues = {T(0.0),
                                       T(-0.0),
                                       T(1.0),
                                       T(-1.0),
                                       T(0.1),
                                       T(-0.7),
                                       T(3.14159265358979),
                                       T(-1e-3),
                                       T(1234.5678),
                                       std::numeric_limits<T>::min(),
                                       -std::numeric_limits<T>::min(),
                                       std::numeric_limits<T>::denorm_min(),
                                       std::numeric_limits<T>::max(),
                                       -std::numeric_limits<T>::max(),
                                       std::numeric_limits<T>::infinity(),
                                       -std::numeric_limits<T>::infinity(),
                                       std::numeric_limits<T>::quiet_NaN()};

// The operations of simd.hpp on scalars.
template <class T>
T scalar_min(T x, T bound) {
    return bound < x ? bound : x;
}
template <class T>
T scalar_max(T x, T bound) {
    return bound > x ? bound : x;
}
template <class T>
T scalar_fma(T a, T b, T c) {
    if (kernel::kHasFma) return std::fma(a, b, c);
    volatile T product = a * b;
    return product + c;
}

template <class T>
void arithmetic() {
    constexpr int L = kernel::kLanes<T>;
    static_assert(L * sizeof(T) == kernel::kVectorBytes &&
                  sizeof(kernel::vec<T>) == kernel::kVectorBytes);
    static_assert(std::is_same_v<kernel::scalar_t<kernel::vec<T>>, T>);
    using V = kernel::vec<T>;
    constexpr std::size_t N = kValues<T>.size();
    T a[L + 1], b[L + 1], c[L + 1];
    // Each pair of values meets in some lane, together with several third values.
    for (std::size_t shift = 0; shift < N * N; ++shift) {
        for (std::size_t i = 0; i <= std::size_t(L); ++i) {
            a[i] = kValues<T>[(shift + i) % N];
            b[i] = kValues<T>[(shift / N + i * 5) % N];
            c[i] = kValues<T>[(shift * 7 + i * 3) % N];
        }
        const V x = kernel::load(a), y = kernel::load(b), z = kernel::load(c);
        EXPECT(x, a[i]);
        EXPECT(kernel::load(a + 1), a[i + 1]);  // an unaligned address
        EXPECT(kernel::splat(a[0]), a[0]);
        EXPECT(kernel::fma(x, y, z), scalar_fma(a[i], b[i], c[i]));
        EXPECT(x + y, a[i] + b[i]);
        EXPECT(x - y, a[i] - b[i]);
        EXPECT(x * y, a[i] * b[i]);
        EXPECT(x / y, a[i] / b[i]);
        EXPECT(-x, -a[i]);
        EXPECT(kernel::sqrt(x), std::sqrt(a[i]));
        EXPECT(kernel::select(x < y, x, z), (a[i] < b[i] ? a[i] : c[i]));
        EXPECT(kernel::select(x == y, x, z), (a[i] == b[i] ? a[i] : c[i]));
        EXPECT(kernel::abs(x), std::abs(a[i]));
        EXPECT(kernel::minus_abs(x), -std::abs(a[i]));
        EXPECT(kernel::with_sign_of(x, kernel::abs(y)), std::copysign(b[i], a[i]));
        EXPECT(kernel::from_bits<V>(kernel::to_bits(x)), a[i]);
        EXPECT(kernel::relu(x), scalar_max(a[i], T(0)));
        EXPECT(kernel::clamp(x, kernel::splat(T(-1)), kernel::splat(T(2))),
               scalar_min(scalar_max(a[i], T(-1)), T(2)));
        if (!std::isnan(b[0])) {  // NaN stays, and so does x if both are equal: -0 and +0
            EXPECT(kernel::min(x, kernel::splat(b[0])), scalar_min(a[i], b[0]));
            EXPECT(kernel::max(x, kernel::splat(b[0])), scalar_max(a[i], b[0]));
        }
        EXPECT(kernel::dsigmoid(x), a[i] * (1 - a[i]));
        EXPECT(kernel::dtanh(x), scalar_fma(-a[i], a[i], T(1)));
        T stored[L + 3];
        for (T& value : stored) value = T(77);
        kernel::store(stored + 1, x);
        EXPECT_TRUE(std::memcmp(stored + 1, a, sizeof x) == 0);
        EXPECT_TRUE(stored[0] == T(77) && stored[L + 1] == T(77));
    }
}

// Tests load_n, store_n and first_lanes with the lanes beyond n in a page that must not be
// accessed.
template <class T>
void partial() {
    constexpr int L = kernel::kLanes<T>;
    const auto page = std::size_t(sysconf(_SC_PAGESIZE));
    void* mapped =
        mmap(nullptr, 3 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    EXPECT_TRUE(mapped != MAP_FAILED);
    if (mapped == MAP_FAILED) return;
    auto* const bytes = static_cast<unsigned char*>(mapped);
    EXPECT_TRUE(mprotect(bytes + 2 * page, page, PROT_NONE) == 0);
    T* const edge = reinterpret_cast<T*>(bytes + 2 * page);
    T* const middle = reinterpret_cast<T*>(bytes + page) + 3;

    T values[L];
    for (int i = 0; i < L; ++i) values[i] = T(i + 1);
    values[L / 2] = std::numeric_limits<T>::quiet_NaN();
    const auto full = kernel::load(values);
    for (int n = -1; n <= L + 2; ++n) {
        const int count = n < 0 ? 0 : n > L ? L : n;
        EXPECT(kernel::first_lanes(full, n), (i < n ? values[i] : T(0)));

        std::memcpy(edge - count, values, std::size_t(count) * sizeof(T));
        EXPECT(kernel::load_n(edge - count, n), (i < n ? values[i] : T(0)));

        for (int i = 0; i < count; ++i) edge[-1 - i] = T(-5);
        kernel::store_n(edge - count, full, n);
        EXPECT_TRUE(std::memcmp(edge - count, values, std::size_t(count) * sizeof(T)) == 0);

        for (int i = -1; i <= L; ++i) middle[i] = T(-5);
        kernel::store_n(middle, full, n);
        EXPECT_TRUE(std::memcmp(middle, values, std::size_t(count) * sizeof(T)) == 0);
        EXPECT_TRUE(middle[-1] == T(-5));
        for (int i = count; i <= L; ++i) EXPECT_TRUE(middle[i] == T(-5));
    }
    munmap(mapped, 3 * page);
}

// Numbers that all differ; in a row each is one larger than the one before it.
template <class T>
void columns() {
    constexpr int L = kernel::kLanes<T>, row = L + 3;
    T matrix[L * row], a[L], b[L];
    for (int r = 0; r < L; ++r)
        for (int j = 0; j < row; ++j) matrix[r * row + j] = T(100 * r + j);
    kernel::vec<T> m[L];
    kernel::load_columns(matrix + 1, row, m);
    for (int j = 0; j < L; ++j) EXPECT(m[j], 100 * i + 1 + j);

    constexpr int block = 16 / int(sizeof(T)), half = block / 2;
    EXPECT(kernel::load_blocks(matrix, row), 100 * (i / block) + i % block);
    for (int lane = 0; lane < L; ++lane) a[lane] = T(lane + 1), b[lane] = T(-lane - 1);
    const auto from = [&](int lane, int first) {  // lane `lane` of a zip from lane `first` on
        const int at = lane / block * block + first + lane % block / 2;
        return lane % 2 == 0 ? a[at] : b[at];
    };
    EXPECT(kernel::zip_low(kernel::load(a), kernel::load(b)), from(i, 0));
    EXPECT(kernel::zip_high(kernel::load(a), kernel::load(b)), from(i, half));
}

template <class T>
void exact_values() {
    const auto at = [](double x) { return kernel::splat(T(x)); };
    const double infinity = std::numeric_limits<double>::infinity();
    for (const double x : {infinity, 1000.0, 1e30}) {
        EXPECT(kernel::exp(at(x)), infinity);
        EXPECT(kernel::exp(at(-x)), 0.0);
        EXPECT(kernel::sigmoid(at(x)), 1.0);
        EXPECT(kernel::sigmoid(at(-x)), 0.0);
        EXPECT(kernel::tanh(at(x)), 1.0);
        EXPECT(kernel::tanh(at(-x)), -1.0);
    }
    for (const double zero : {0.0, -0.0}) {
        EXPECT(kernel::exp(at(zero)), 1.0);
        EXPECT(kernel::sigmoid(at(zero)), 0.5);
        EXPECT(kernel::tanh(at(zero)), zero);
    }
    const double nan = std::numeric_limits<double>::quiet_NaN();
    EXPECT(kernel::exp(at(nan)), nan);
    EXPECT(kernel::sigmoid(at(nan)), nan);
    EXPECT(kernel::tanh(at(nan)), nan);
}

template <class T>
void all() {
    arithmetic<T>();
    partial<T>();
    columns<T>();
    exact_values<T>();
}

}  // namespace

int main() {
    all<float>();
    all<double>();
    std::printf("test_simd: %d failures\n", failures);
    return failures == 0 ? 0 : 1;
}
