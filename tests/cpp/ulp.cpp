// Compares exp, sigmoid and tanh of csrc/inner/math.hpp with libm in the next wider type, and gives
// the errors in units in the last place. run.sh builds this once per ISA.
//   ulp sampled      3 10^5 inputs a function      ulp exhaustive   all floats, 10^7 doubles
//   ulp hash         one hash of results per function, equal on every ISA with fma
// Exits with 1 if an error exceeds the bound of docs/accuracy.md: 2 ULP, 4 without fma.
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <limits>
#include <type_traits>
#include <vector>

#include "inner/math.hpp"

namespace {

namespace kernel = fusedrnn::FUSEDRNN_ISA;

constexpr double kBound = kernel::kHasFma ? 2.0 : 4.0;
constexpr std::size_t kBlock = 4096;

// The floating-point control word, and its bits for flush-to-zero and denormals-are-zero.
#if defined(__x86_64__)
constexpr unsigned kFlush = 0x8040;
unsigned control() { return _mm_getcsr(); }
void set_control(unsigned word) { _mm_setcsr(word); }
#elif defined(__aarch64__)
constexpr std::uint64_t kFlush = 1 << 24;
std::uint64_t control() {
    std::uint64_t word;
    __asm__ volatile("mrs %0, fpcr" : "=r"(word));
    return word;
}
void set_control(std::uint64_t word) { __asm__ volatile("msr fpcr, %0" ::"r"(word)); }
#endif

enum class Function { exp, sigmoid, tanh };
constexpr Function kFunctions[] = {Function::exp, Function::sigmoid, Function::tanh};
const char* name(Function f) { return std::array{"exp", "sigmoid", "tanh"}[std::size_t(f)]; }

// Called through a volatile pointer, because GCC would move arithmetic across the change of mode.
template <class T>
void apply(Function f, const T* x, T* y) {
    for (std::size_t i = 0; i < kBlock; i += kernel::kLanes<T>) {
        const auto v = kernel::load(x + i);
        kernel::store(y + i, f == Function::exp       ? kernel::exp(v)
                             : f == Function::sigmoid ? kernel::sigmoid(v)
                                                      : kernel::tanh(v));
    }
}
template <class T>
void (*volatile apply_pointer)(Function, const T*, T*) = apply<T>;

template <class T>
void evaluate(Function f, const std::vector<T>& x, std::vector<T>& y, bool flush) {
    const auto before = control();
    if (flush) set_control(before | kFlush);  // kernels run in this mode
    apply_pointer<T>(f, x.data(), y.data());
    set_control(before);
}

template <class T>
using Bits = std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>;
template <class T>
using Wide = std::conditional_t<sizeof(T) == 4, double, long double>;

template <class W>
W exact(Function f, W x) {
    if (f == Function::exp) return std::exp(x);
    if (f == Function::tanh) return std::tanh(x);
    const W e = std::exp(-std::abs(x));
    return x < 0 ? e / (1 + e) : 1 / (1 + e);
}

template <class T>
struct Worst {
    double ulp = 0;
    T at = 0;
    std::uint64_t count = 0, failures = 0;
};

template <class T>
void judge(Function f, T x, T y, Worst<T>& worst) {
    using Limits = std::numeric_limits<T>;
    using W = Wide<T>;
    ++worst.count;
    bool good = false;
    double ulps = 0;
    if (std::isnan(x)) {
        good = std::isnan(y);
    } else {
        const W want = exact(f, W(x));
        const W least = Limits::min();
        const bool normal_input = std::abs(x) >= Limits::min() || x == 0;
        if (std::abs(want) > W(Limits::max())) {
            good = std::isinf(y) && y > 0;
        } else if (want == 0 || std::abs(want) < least || !normal_input) {
            const W off = std::abs(W(y) - want);
            good = (y == 0 && std::abs(want) < least) || off <= 2 * W(Limits::denorm_min()) ||
                   off <= W(2 * Limits::epsilon()) * std::abs(want);
        } else {
            const W unit = std::ldexp(W(Limits::epsilon()), std::ilogb(want));
            ulps = double(std::abs(W(y) - want) / unit);
            good = ulps <= kBound;
        }
        if (f == Function::tanh)
            good = good && std::signbit(y) == std::signbit(x) && !(std::abs(y) > 1);
        if (f == Function::sigmoid) good = good && y >= 0 && y <= 1;
    }
    if (!good && worst.failures++ < 5)
        std::printf("FAIL %s(%a) = %a, %.3f ULP\n", name(f), double(x), double(y), ulps);
    if (ulps > worst.ulp) worst.ulp = ulps, worst.at = x;
}

template <class T>
class Sweep {
  public:
    Sweep(Function f, bool flush) : f_(f), flush_(flush), x_(kBlock), y_(kBlock) {}

    void add(T x) {
        x_[filled_++] = x;
        if (filled_ == kBlock) finish();
    }

    // x and the 2 n numbers next to it, with both signs.
    void around(T x, int n) {
        for (int i = -n; i <= n; ++i) {
            const T near = std::bit_cast<T>(Bits<T>(std::bit_cast<Bits<T>>(x) + Bits<T>(i)));
            add(near), add(-near);
        }
    }

    void finish() {
        for (std::size_t i = filled_; i < kBlock; ++i) x_[i] = 0;
        evaluate(f_, x_, y_, flush_);
        for (std::size_t i = 0; i < filled_; ++i) judge(f_, x_[i], y_[i], worst_);
        filled_ = 0;
    }

    const Worst<T>& worst() const { return worst_; }

  private:
    Function f_;
    bool flush_;
    std::vector<T> x_, y_;
    std::size_t filled_ = 0;
    Worst<T> worst_;
};

std::uint64_t random_bits(std::uint64_t& state) {  // splitmix64 (Steele, Lea, Flood 2014)
    std::uint64_t z = (state += 0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
}

// Random bit patterns, and uniform numbers on intervals in which the formulas differ.
template <class T, class Add>
void random_inputs(std::uint64_t count, Add add) {
    const double wide = sizeof(T) == 4 ? 110 : 760;
    const double widths[] = {1.0, 4.0, 24.0, wide};
    std::uint64_t state = 1;
    for (std::uint64_t i = 0; i < count; ++i) {
        const std::uint64_t bits = random_bits(state);
        const double uniform = double(std::int64_t(random_bits(state))) * 0x1p-63;
        if (i % 5 == 4)
            add(std::bit_cast<T>(Bits<T>(bits >> (64 - 8 * sizeof(T)))));
        else
            add(T(uniform * widths[i % 5]));
    }
}

template <class T, class S>
void switching_points(S& sweep, int n) {
    using C = kernel::MathConstants<T>;
    using Limits = std::numeric_limits<T>;
    for (const T point : {T(0), T(1), C::overflow, T(-C::underflow), C::tanh_is_one})
        sweep.around(point, n);
    for (const T point : {Limits::min(), Limits::max(), Limits::infinity(), Limits::quiet_NaN()})
        sweep.around(point, n), sweep.around(std::log(point), n);
    for (int j = 1; j < 4200; ++j)  // at multiples of ln(2)/4, n of e^x or e^2x = 2^n e^r changes
        sweep.around(T(j * 0.17328679513998632), n / 50);
}

template <class T>
bool sweep_all(bool exhaustive) {
    bool good = true;
    for (const Function f : kFunctions) {
        for (const bool flush : {true, false}) {
            Sweep<T> sweep(f, flush);
            switching_points<T>(sweep, exhaustive ? 2000 : 200);
            if (sizeof(T) == 4 && exhaustive && flush) {
                for (std::uint64_t i = 0; i < 1ULL << 32; ++i)
                    sweep.add(std::bit_cast<T>(Bits<T>(i)));
            } else {
                const std::uint64_t count = exhaustive ? 10'000'000 : 200'000;
                random_inputs<T>(flush ? count : count / 10, [&](T x) { sweep.add(x); });
            }
            sweep.finish();
            const Worst<T>& w = sweep.worst();
            std::printf("%-7s %-6s %s  max %.4f ULP at %a, %llu inputs, %llu beyond %.0f\n",
                        name(f), sizeof(T) == 4 ? "float" : "double", flush ? "flush" : "keep ",
                        w.ulp, double(w.at), static_cast<unsigned long long>(w.count),
                        static_cast<unsigned long long>(w.failures), kBound);
            good = good && w.failures == 0;
        }
    }
    return good;
}

template <class T>
void print_hashes() {
    // aarch64 flushes before it rounds, so results up to this size may be 0 there.
    using Limits = std::numeric_limits<T>;
    const T flushed = Limits::min() * (1 + Limits::epsilon());
    for (const Function f : kFunctions) {
        std::vector<T> x, y(kBlock);
        random_inputs<T>(256 * kBlock, [&](T v) { x.push_back(v); });
        std::uint64_t hash = 0xcbf29ce484222325;
        for (std::size_t at = 0; at < x.size(); at += kBlock) {
            const auto begin = x.begin() + long(at);
            evaluate(f, std::vector<T>(begin, begin + kBlock), y, true);
            for (T v : y) {
                if (std::isnan(v)) v = 1234;
                if (std::abs(v) <= flushed) v = 0;
                hash = (hash ^ std::bit_cast<Bits<T>>(v)) * 0x100000001b3;
                hash ^= hash >> 29;
            }
        }
        std::printf("%-7s %-6s %016llx\n", name(f), sizeof(T) == 4 ? "float" : "double",
                    static_cast<unsigned long long>(hash));
    }
}

}  // namespace

int main(int argc, char** argv) {
    const char* mode = argc > 1 ? argv[1] : "sampled";
    if (std::strcmp(mode, "hash") == 0) {
        print_hashes<float>();
        print_hashes<double>();
        return 0;
    }
    const bool exhaustive = std::strcmp(mode, "exhaustive") == 0;
    const bool floats_good = sweep_all<float>(exhaustive);
    return sweep_all<double>(exhaustive) && floats_good ? 0 : 1;
}
