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

// True in a child made by fork(): the OpenMP threads of its parent do not exist there.
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

// The kernel is called through a pointer, so the compiler cannot move floating-point code across
// the change.
void flushed(void (*fn)(void*, int, int), void* ctx, int thread, int threads) {
    const auto before = control();
    set_control(before | kFlush);
    fn(ctx, thread, threads);
    set_control(before);
}

#ifdef _OPENMP  // without OpenMP there is one thread
struct BarrierState {
    alignas(64) int arrived = 0;
    alignas(64) unsigned phase = 0;
    int threads = 1;
    std::int64_t busy = 0;  // ns of processor time of the busiest thread
};

void pause() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

std::int64_t now(clockid_t clock) {
    timespec t{};
    clock_gettime(clock, &t);
    return std::int64_t{t.tv_sec} * 1'000'000'000 + t.tv_nsec;
}

// Nanoseconds of processor time that this thread has spent in barriers of this region, without the
// spins at the start of each wait.
thread_local std::int64_t waited = 0;

// The barrier. It spins for some ten microseconds, then yields, then sleeps, so that other work on
// the same cores can run.
void wait(void* self) {
    constexpr int kSpins = 500, kYields = 200;
    auto& b = *static_cast<BarrierState*>(self);
    const int threads = __atomic_load_n(&b.threads, __ATOMIC_RELAXED);
    const unsigned phase = __atomic_load_n(&b.phase, __ATOMIC_ACQUIRE);
    if (__atomic_add_fetch(&b.arrived, 1, __ATOMIC_ACQ_REL) == threads) {
        __atomic_store_n(&b.arrived, 0, __ATOMIC_RELAXED);
        __atomic_store_n(&b.phase, phase + 1, __ATOMIC_RELEASE);
        return;
    }
    for (int tries = 0; tries < kSpins; ++tries) {
        if (__atomic_load_n(&b.phase, __ATOMIC_ACQUIRE) != phase) return;
        pause();
    }
    const std::int64_t from = now(CLOCK_THREAD_CPUTIME_ID);
    for (int tries = 0; __atomic_load_n(&b.phase, __ATOMIC_ACQUIRE) == phase; ++tries) {
        if (tries < kYields) {
            sched_yield();
        } else {
            const timespec nap{0, 20000};
            nanosleep(&nap, nullptr);
        }
    }
    waited += now(CLOCK_THREAD_CPUTIME_ID) - from;
}

// Detects that other work keeps the cores busy. If the busiest thread of a team worked for much
// less than the time that passed, it waited for the others, and one thread alone would have been as
// fast. After a millisecond of this, calls run serially for kPause; the pause doubles, up to
// kLongestPause, each time that the next trial has the same result.
class Crowding {
  public:
    bool serial() const { return now(CLOCK_MONOTONIC) < load(until_); }

    // A region took `wall` ns, and its busiest thread worked for `busy` of them.
    void note(std::int64_t wall, std::int64_t busy) {
        const std::int64_t all = __atomic_add_fetch(&wall_, wall, __ATOMIC_RELAXED);
        const std::int64_t used = __atomic_add_fetch(&busy_, busy, __ATOMIC_RELAXED);
        if (all < kTrial) return;
        store(wall_, 0);
        store(busy_, 0);
        if (3 * used > 2 * all) {
            store(pause_, kPause);
            return;
        }
        const std::int64_t pause = load(pause_);
        store(until_, now(CLOCK_MONOTONIC) + pause);
        store(pause_, std::min(2 * pause, kLongestPause));
    }

  private:
    static constexpr std::int64_t kTrial = 1'000'000, kPause = 50'000'000,
                                  kLongestPause = 2'000'000'000;
    static std::int64_t load(const std::int64_t& value) {
        return __atomic_load_n(&value, __ATOMIC_RELAXED);
    }
    static void store(std::int64_t& to, std::int64_t value) {
        __atomic_store_n(&to, value, __ATOMIC_RELAXED);
    }
    std::int64_t wall_ = 0, busy_ = 0, until_ = 0, pause_ = kPause;
};
Crowding crowding;

// What each thread of a team runs. It ends with the barrier of this file, because the barrier of
// the OpenMP runtime spins for milliseconds, on a core that a slower thread of the team may need.
void work(void (*fn)(void*, int, int), void* ctx, int threads, BarrierState& state) {
    waited = 0;
    const std::int64_t from = now(CLOCK_THREAD_CPUTIME_ID);
    flushed(fn, ctx, omp_get_thread_num(), threads);
    if (threads > 1) wait(&state);
    const std::int64_t busy = now(CLOCK_THREAD_CPUTIME_ID) - from - waited;
    std::int64_t most = __atomic_load_n(&state.busy, __ATOMIC_RELAXED);
    while (busy > most && !__atomic_compare_exchange_n(&state.busy, &most, busy, true,
                                                       __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
    }
}

int allowed_cpus() {
#ifdef __linux__
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set);
#endif
    return 1 << 20;
}

// The bandwidth quota of the control group in CPUs, rounded up; a large number if there is none.
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

int run(void (*fn)(void*, int, int), void* ctx, TeamSize team, Barrier& barrier) {
    barrier = Barrier{nullptr, nullptr};
#ifdef _OPENMP
    if (team.threads > 1 && !forked && !omp_in_parallel() && (team.obey || !crowding.serial())) {
        BarrierState state;
        barrier = Barrier{wait, &state};
        const int threads = team.threads;
        const std::int64_t begin = now(CLOCK_MONOTONIC);
        int given = 1;
#pragma omp parallel num_threads(threads)
        {
            // Every thread stores the same number before its first wait.
            const int n = omp_get_num_threads();
            __atomic_store_n(&state.threads, n, __ATOMIC_RELAXED);
            if (omp_get_thread_num() == 0) given = n;
            work(fn, ctx, n, state);
        }
        barrier = Barrier{nullptr, nullptr};
        crowding.note(now(CLOCK_MONOTONIC) - begin, state.busy);
        return given;
    }
#endif
    static_cast<void>(team);
    flushed(fn, ctx, 0, 1);
    return 1;
}

}  // namespace fusedrnn
