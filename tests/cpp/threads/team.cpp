// csrc/outer/team.cpp with std::thread in place of OpenMP, because the thread sanitizer cannot look
// into OpenMP's runtime. It reports a race if a kernel misses a barrier or a barrier does not order
// memory.
#define run run_on_openmp
#include "../../../csrc/outer/team.cpp"
#undef run

#include <thread>
#include <vector>

namespace fusedrnn {

int run(void (*fn)(void*, int, int), void* ctx, TeamSize size, Barrier& barrier) {
    const int threads = size.threads;
    BarrierState state;
    state.threads = threads;
    barrier = threads > 1 ? Barrier{wait, &state} : Barrier{nullptr, nullptr};
    std::vector<std::thread> team;
    for (int i = 1; i < threads; ++i) team.emplace_back(flushed, fn, ctx, i, threads);
    flushed(fn, ctx, 0, threads);
    for (std::thread& member : team) member.join();
    barrier = Barrier{nullptr, nullptr};
    return threads;
}

}  // namespace fusedrnn
