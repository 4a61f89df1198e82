// Runs a Forward or a Backward that has been filled in, without Python: orders the rows, cuts the
// walk into slices of time, and goes through the blocks of a backward call.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstring>
#include <new>
#include <numeric>
#include <span>
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

// Uninitialised memory that starts on a 64-byte boundary, for scratch and packs. Allocations so
// large that malloc maps them anew each time use huge pages, as NumPy's large arrays do.
template <class T>
class Scratch {
  public:
    explicit Scratch(Index items) : bytes_(static_cast<std::size_t>(items) * sizeof(T)) {
        data_ = static_cast<T*>(::operator new(bytes_, align()));
#ifdef __linux__
        if (large()) madvise(data_, bytes_, MADV_HUGEPAGE);  // a hint; failure is no error
#endif
    }
    ~Scratch() { ::operator delete(data_, align()); }
    Scratch(const Scratch&) = delete;
    Scratch& operator=(const Scratch&) = delete;
    T* data() const { return data_; }

  private:
    // glibc's malloc maps every allocation of kMapped bytes; its threshold grows no further.
    static constexpr std::size_t kHugePage = 2 * 1024 * 1024, kMapped = 16 * kHugePage;

    bool large() const { return bytes_ >= kMapped; }
    std::align_val_t align() const { return std::align_val_t{large() ? kHugePage : kBlockBytes}; }

    std::size_t bytes_;
    T* data_;
};

// Orders the rows of a batch by falling length and counts how many are live at each walk step. Owns
// the arrays of the schedule that it fills.
class Ranks {
  public:
    // length: [batch], each in [0, steps]. If all are `steps` and out.times is null, `out` is not
    // changed, because its arrays may then be null. `group` is that of the layout.
    void order(const Index* length, Index batch, Index steps, Index group, Schedule& out) {
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
        if (group == 0) return;
        grouped_.resize(static_cast<std::size_t>(batch));
        for (Index r = 0; r < batch; ++r)
            grouped_[static_cast<std::size_t>(row_[static_cast<std::size_t>(r)])] = r;
        for (Index b = 0; b < batch; b += group)
            std::sort(grouped_.begin() + b, grouped_.begin() + b + group);
        out.grouped = grouped_.data();
    }

  private:
    std::vector<Index> row_, length_, live_, start_, grouped_;
};

// Makes a direction of an unpacked call read the weights of `job`, whose `out` is ignored.
// direction.scratch must be set.
template <class T>
void read_unpacked(const Kernels<T>& kernels, Pack<T> job, ForwardDirection<T>& direction) {
    job.out = reinterpret_cast<std::byte*>(direction.scratch + job.layout.fwd_head);
    job.head_only = true;
    kernels.pack(&job, 0, 1);
    direction.pack = job.out;
    direction.w_ih = job.w_ih;
    direction.w_hh = job.w_hh;
    direction.w_hr = job.w_hr;
}

// Walks a number of steps in slices of about 50 ms, run(first, last), and calls `poll`, which may
// throw, between them. The length of the first slice is estimated from the work of a step, that of
// the next ones from the time that the last one took.
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

    // How many parts of `rows` rows make one step of a part short enough for a slice.
    int parts(Split split, Index rows) const {
        const double most = split != Split::kUnits ? static_cast<double>(rows) / kGroupRows : 1.0;
        return static_cast<int>(std::clamp(flops_ / kStepFlops, 1.0, std::max(1.0, most)));
    }

  private:
    double first_slice() const { return std::max(1.0, kFirstFlops / flops_); }

    static constexpr double kSeconds = 0.05, kFirstFlops = 2e8, kStepFlops = 2e9;
    // Cost of a step besides its products (bookkeeping, element-wise work), which counts in a small
    // layer.
    static constexpr double kFixedFlops = 2e4;
    double flops_, per_slice_;
    double since_ = 0.0;
    void (*poll_)();
};

// The calls that one walk makes ready, and what computes them. Usually it is one call, whose rows,
// units or directions the threads divide. If there are several, one for each weight set, they have
// the same layout; then the threads divide the calls, and one thread computes the whole of a call.
template <class C>
struct Calls {
    void (*kernel)(void* call, int thread, int threads);
    std::span<C> each;
    TeamSize team;
    Barrier barrier{};

    // Returns the number of threads.
    int run() {
        if (each.size() == 1) return fusedrnn::run(kernel, each.data(), team, each[0].barrier);
        return fusedrnn::run(some, this, team, barrier);
    }

  private:
    static void some(void* self, int thread, int threads) {
        auto& all = *static_cast<Calls*>(self);
        for (auto i = static_cast<std::size_t>(thread); i < all.each.size();
             i += static_cast<std::size_t>(threads))
            all.kernel(&all.each[i], 0, 1);
    }
};

// Runs the whole forward walk on a team; returns the largest number of threads of a slice. If
// threads divide rows, rows do not depend on each other, so one part of the batch can walk all its
// steps before the next part.
template <class T>
int drive_forward(Calls<Forward<T>> calls, Slices slices) {
    const Forward<T>& first = calls.each[0];
    const int parts = slices.parts(first.split, first.layout.batch);
    int used = 1;
    for (int i = 0; i < parts; ++i) {
        auto slice = [&](Index begin, Index end) {
            for (Forward<T>& call : calls.each) {
                call.part = {i, parts};
                call.begin = begin;
                call.end = end;
            }
            used = std::max(used, calls.run());
        };
        if (first.layout.steps == 0)
            slice(0, 0);
        else
            slices.walk(first.layout.steps, slice);
    }
    return used;
}

// Whether a backward call walks two directions at the same time. Each then has scratch of its own.
template <class T>
bool walked_together(const Backward<T>& call) {
    return call.split == Split::kDirections && call.layout.directions > 1;
}

// dx of the first direction += dx of the second.
template <class T>
void add_dx(const Backward<T>& call) {
    const auto &to = call.direction[0], &from = call.direction[1];
    for (Index t = 0; t < call.layout.steps; ++t)
        for (Index b = 0; b < call.layout.batch; ++b) {
            T* sum = to.dx + t * to.dx_step + b * to.dx_row;
            const T* more = from.dx + t * from.dx_step + b * from.dx_row;
            for (Index i = 0; i < call.layout.input; ++i) sum[i] += more[i];
        }
}

// Runs the whole backward walk: for each block of partial_steps, from the last one on, the steps in
// slices, then the products; at the end the totals. Directions are walked one after the other or,
// with kDirections, at the same time; then each has a dx of its own.
template <class T>
int drive_backward(Calls<Backward<T>> calls, Slices slices) {
    const Backward<T>& first = calls.each[0];
    const Layout& at = first.layout;
    const int parts = slices.parts(first.split, at.batch);
    const bool both = walked_together(first);
    int used = 1;
    // What the next stage of every call reads.
    int which = 0;
    Index block = 0;
    Part part{0, 1};
    auto stage = [&](Stage stage, Index begin, Index end) {
        for (Backward<T>& call : calls.each) {
            call.stage = stage;
            call.which = which;
            call.block = block;
            call.part = part;
            call.begin = begin;
            call.end = end;
        }
        used = std::max(used, calls.run());
    };
    auto walk = [&](Stage which_stage, Index count) {
        slices.walk(count, [&](Index begin, Index end) { stage(which_stage, begin, end); });
    };
    for (; which < (both ? 1 : at.directions); ++which) {
        for (Backward<T>& call : calls.each)
            for (int own = which; at.group == 0 && own < (both ? at.directions : which + 1); ++own)
                std::memset(call.direction[own].scratch + at.bwd_db, 0,
                            static_cast<std::size_t>(at.bwd_total - at.bwd_db) * sizeof(T));
        const Index groups = at.group == 0 ? 0 : at.batch / at.group;
        block = 0;
        if (at.steps == 0) walk(Stage::kGroups, groups);
        for (Index end = at.steps; end > 0; end = block) {
            block = std::max<Index>(0, end - at.partial_steps);
            for (int i = 0; i < parts; ++i) {
                part = {i, parts};
                slices.walk(end - block, [&](Index from, Index to) {
                    stage(Stage::kSteps, end - to, end - from);
                });
            }
            const Index rows = (end - block) * at.batch;
            walk(Stage::kProducts, (rows + kPartialRows - 1) / kPartialRows);
            walk(Stage::kGroups, groups);
        }
        block = 0;
        part = {0, 1};
        stage(Stage::kFinish, 0, 0);
    }
    for (const Backward<T>& call : calls.each)
        if (both && call.direction[0].dx != nullptr) add_dx(call);
    return used;
}

}  // namespace fusedrnn
