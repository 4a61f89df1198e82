#include "team.hpp"

#include <pthread.h>
#include <sched.h>
#include <time.h>

#include <algorithm>
#include <cstdio>

#ifdef _OPENMP
#include <omp.h>
#endif

namespace fusedrnn {
namespace {

// Set in a child made by fork(): its parent's OpenMP threads do not exist there.
bool forked = false;
[[maybe_unused]] const int registered = pthread_atfork(nullptr, nullptr, [] { forked = true; });

#if defined(__x86_64__)
constexpr unsigned kFlush = 0x8040;  // flush-to-zero, denormals-are-zero
unsigned control() { return __builtin_ia32_stmxcsr(); }
void set_control(unsigned value) { __builtin_ia32_ldmxcsr(value); }
#elif defined(__aarch64__)
constexpr unsigned long kFlush = 1UL << 24;  // FPCR.FZ
unsigned long control() {
    unsigned long value;
    asm volatile("mrs %0, fpcr" : "=r"(value));
    return value;
}
void set_control(unsigned long value) { asm volatile("msr fpcr, %0" : : "r"(value)); }
#endif

// The kernel sits behind a pointer, so no floating-point code can move across the change.
void flushed(void (*fn)(void*, int, int), void* ctx, int thread, int threads) {
    const auto before = control();
    set_control(before | kFlush);
    fn(ctx, thread, threads);
    set_control(before);
}

#ifdef _OPENMP  // without it there is one thread
struct BarrierState {
    alignas(64) int arrived = 0;
    alignas(64) unsigned phase = 0;
    int threads = 1;
};

void pause() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

// Spins for some microseconds, then yields, then sleeps: a team that shares its cores with others
// must let them run.
void wait(void* self) {
    constexpr int kSpins = 2000, kYields = 200;
    auto& b = *static_cast<BarrierState*>(self);
    const int threads = __atomic_load_n(&b.threads, __ATOMIC_RELAXED);
    const unsigned phase = __atomic_load_n(&b.phase, __ATOMIC_ACQUIRE);
    if (__atomic_add_fetch(&b.arrived, 1, __ATOMIC_ACQ_REL) == threads) {
        __atomic_store_n(&b.arrived, 0, __ATOMIC_RELAXED);
        __atomic_store_n(&b.phase, phase + 1, __ATOMIC_RELEASE);
        return;
    }
    for (int tries = 0; __atomic_load_n(&b.phase, __ATOMIC_ACQUIRE) == phase; ++tries) {
        if (tries < kSpins) {
            pause();
        } else if (tries < kSpins + kYields) {
            sched_yield();
        } else {
            const timespec nap{0, 20000};
            nanosleep(&nap, nullptr);
        }
    }
}

int allowed_cpus() {
#ifdef __linux__
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set);
#endif
    return 1 << 20;
}

// CPUs that the control group's bandwidth quota amounts to, rounded up.
int quota_cpus() {
    long long quota = -1, period = 100000;
    if (std::FILE* f = std::fopen("/sys/fs/cgroup/cpu.max", "r")) {
        if (std::fscanf(f, "%lld %lld", &quota, &period) != 2) quota = -1;
        std::fclose(f);
    } else if (std::FILE* q = std::fopen("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "r")) {
        if (std::fscanf(q, "%lld", &quota) != 1) quota = -1;
        std::fclose(q);
        if (std::FILE* p = std::fopen("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "r")) {
            if (std::fscanf(p, "%lld", &period) != 1) quota = -1;
            std::fclose(p);
        }
    }
    if (quota <= 0 || period <= 0) return 1 << 20;
    return static_cast<int>(std::max<long long>(1, (quota + period - 1) / period));
}
#endif

}  // namespace

bool has_openmp() {
#ifdef _OPENMP
    return true;
#else
    return false;
#endif
}

int default_threads() {
#ifdef _OPENMP
    static const int quota = quota_cpus();
    return std::max(1, std::min({omp_get_max_threads(), allowed_cpus(), quota}));
#else
    return 1;
#endif
}

int run(void (*fn)(void*, int, int), void* ctx, int threads, Barrier& barrier) {
    barrier = Barrier{nullptr, nullptr};
#ifdef _OPENMP
    if (threads > 1 && !forked && !omp_in_parallel()) {
        BarrierState state;
        barrier = Barrier{wait, &state};
        int given = 1;
#pragma omp parallel num_threads(threads)
        {
            // Every thread stores the same number, before it can wait.
            const int n = omp_get_num_threads();
            __atomic_store_n(&state.threads, n, __ATOMIC_RELAXED);
            if (omp_get_thread_num() == 0) given = n;
            flushed(fn, ctx, omp_get_thread_num(), n);
        }
        barrier = Barrier{nullptr, nullptr};
        return given;
    }
#endif
    static_cast<void>(threads);
    flushed(fn, ctx, 0, 1);
    return 1;
}

}  // namespace fusedrnn
