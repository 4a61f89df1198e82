// One call through its kernel, without Python: the order of ranks, slices of time, the blocks of
// the backward walk. Whoever fills a Forward or a Backward drives it by this.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstring>
#include <new>
#include <numeric>
#include <vector>

#ifdef __linux__
#include <sys/mman.h>
#endif

#include "kernels.hpp"
#include "team.hpp"

namespace fusedrnn {

template <class T>
const Kernels<T>& kernels_of(const Table& table) {
    if constexpr (sizeof(T) == 4)
        return table.f32;
    else
        return table.f64;
}

// Memory that starts on a 64-byte boundary, uninitialised; scratch of a call, freed at its end.
// What malloc would map anew for every call lies on huge pages, as NumPy's large arrays do.
template <class T>
class Scratch {
  public:
    explicit Scratch(Index items) : bytes_(static_cast<std::size_t>(items) * sizeof(T)) {
        data_ = static_cast<T*>(::operator new(bytes_, align()));
#ifdef __linux__
        if (large()) madvise(data_, bytes_, MADV_HUGEPAGE);  // a wish: refusing it is no error
#endif
    }
    ~Scratch() { ::operator delete(data_, align()); }
    Scratch(const Scratch&) = delete;
    Scratch& operator=(const Scratch&) = delete;
    T* data() const { return data_; }

  private:
    static constexpr std::size_t kHugePage = 2 * 1024 * 1024, kMapped = 16 * kHugePage;

    bool large() const { return bytes_ >= kMapped; }
    std::align_val_t align() const { return std::align_val_t{large() ? kHugePage : kBlockBytes}; }

    std::size_t bytes_;
    T* data_;
};

// The rows of a batch by falling length, and how many of them live at each walk step; owns the
// arrays of the schedule it fills.
class Ranks {
  public:
    // length: [batch], each in [0, steps]. Where all are `steps` and times are not given one by
    // one, out is left as it is.
    void order(const Index* length, Index batch, Index steps, Schedule& out) {
        if (out.times[0] == nullptr &&
            std::all_of(length, length + batch, [&](Index n) { return n == steps; }))
            return;
        row_.resize(static_cast<std::size_t>(batch));
        std::iota(row_.begin(), row_.end(), Index{0});
        std::stable_sort(row_.begin(), row_.end(),
                         [&](Index a, Index b) { return length[a] > length[b]; });
        live_.assign(static_cast<std::size_t>(steps) + 1, 0);
        start_.assign(static_cast<std::size_t>(steps) + 1, 0);
        for (const Index r : row_) {
            length_.push_back(length[r]);
            for (Index s = 0; s < length[r]; ++s) ++live_[static_cast<std::size_t>(s)];
        }
        std::partial_sum(live_.begin(), live_.end() - 1, start_.begin() + 1);
        out.row = row_.data();
        out.length = length_.data();
        out.live = live_.data();
        out.start = start_.data();
    }

  private:
    std::vector<Index> row_, length_, live_, start_;
};

// Makes a direction of an unpacked call read the weights of `job`, which need have no `out`; its
// scratch is in place.
template <class T>
void read_unpacked(const Kernels<T>& kernels, Pack<T> job, ForwardDirection<T>& direction) {
    job.out = direction.scratch + job.layout.fwd_head;
    job.head_only = true;
    kernels.pack(&job, 0, 1);
    direction.pack = job.out;
    direction.w_ih = job.w_ih;
    direction.w_hh = job.w_hh;
    direction.w_hr = job.w_hr;
}

// Walks `steps` in slices of about 50 ms, run(first, last), and calls `poll` between them, which
// may throw. The first slice is a guess from the work, the next ones follow the clock.
class Slices {
  public:
    Slices(double flops_of_step, void (*poll)())
        : flops_(flops_of_step + kFixedFlops), per_slice_(first_slice()), poll_(poll) {}

    template <class Run>
    void walk(Index steps, Run run) {
        for (Index s = 0; s < steps;) {
            const Index n = std::min(steps - s, static_cast<Index>(std::min(per_slice_, 1e15)));
            const auto from = std::chrono::steady_clock::now();
            run(s, s + n);
            const std::chrono::duration<double> took = std::chrono::steady_clock::now() - from;
            s += n;
            if (s < steps)
                per_slice_ =
                    std::max(1.0, static_cast<double>(n) * kSeconds / std::max(took.count(), 1e-4));
            since_ += took.count();
            if (since_ < kSeconds / 2) continue;
            since_ = 0.0;
            poll_();
        }
    }

    // Parts of `rows` rows that make one step short enough for a slice.
    int parts(Split split, Index rows) const {
        const double most = split != Split::kUnits ? static_cast<double>(rows) / kGroupRows : 1.0;
        return static_cast<int>(std::clamp(flops_ / kStepFlops, 1.0, std::max(1.0, most)));
    }

  private:
    double first_slice() const { return std::max(1.0, kFirstFlops / flops_); }

    static constexpr double kSeconds = 0.05, kFirstFlops = 2e8, kStepFlops = 2e9;
    // What a step costs besides its products: element-wise work of a small layer, bookkeeping.
    static constexpr double kFixedFlops = 2e4;
    double flops_, per_slice_;
    double since_ = 0.0;
    void (*poll_)();
};

// The whole forward walk on a team; returns how many threads there were at most. Rows walk alone
// where threads divide them, so a part of the batch can take all its steps before the next.
template <class T>
int drive_forward(const CellKernels<T>& kernel, Forward<T>& call, TeamSize team, Slices slices) {
    int used = 1;
    auto slice = [&](Index first, Index last) {
        call.begin = first;
        call.end = last;
        used = std::max(used, run(kernel.forward, &call, team, call.barrier));
    };
    const int parts = slices.parts(call.split, call.layout.batch);
    for (int i = 0; i < parts; ++i) {
        call.part = {i, parts};
        if (call.layout.steps == 0)
            slice(0, 0);
        else
            slices.walk(call.layout.steps, slice);
    }
    return used;
}

// One direction after the other: blocks of partial_steps from the last, steps in slices, then the
// products of the block; totals at the end.
template <class T>
int drive_backward(const CellKernels<T>& kernel, Backward<T>& call, TeamSize team, Slices slices) {
    const Layout& at = call.layout;
    const int parts = slices.parts(call.split, at.batch);
    int used = 1;
    auto stage = [&](Stage which) {
        call.stage = which;
        used = std::max(used, run(kernel.backward, &call, team, call.barrier));
    };
    for (int d = 0; d < at.directions; ++d) {
        call.which = d;
        std::memset(call.direction[d].scratch + at.bwd_dw, 0,
                    static_cast<std::size_t>(at.bwd_total - at.bwd_dw) * sizeof(T));
        for (Index end = at.steps; end > 0; end = call.block) {
            call.block = std::max<Index>(0, end - at.partial_steps);
            for (int i = 0; i < parts; ++i) {
                call.part = {i, parts};
                slices.walk(end - call.block, [&](Index first, Index last) {
                    call.begin = end - last;
                    call.end = end - first;
                    stage(Stage::kSteps);
                });
            }
            const Index rows = (end - call.block) * at.batch;
            slices.walk((rows + kPartialRows - 1) / kPartialRows, [&](Index first, Index last) {
                call.begin = first;
                call.end = last;
                stage(Stage::kProducts);
            });
        }
        call.block = 0;
        call.part = {0, 1};
        stage(Stage::kFinish);
    }
    return used;
}

}  // namespace fusedrnn
