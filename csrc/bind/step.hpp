// Runs one layer, one step at a time. What is the same for every step is verified, allocated and
// filled in once, so that a step only checks its two arrays and runs the kernel.
#pragma once

#include <cmath>
#include <functional>
#include <memory>
#include <utility>

#include "call.hpp"

namespace fusedrnn {

class Stepper {
  public:
    Stepper() = default;
    Stepper(const Stepper&) = delete;
    Stepper& operator=(const Stepper&) = delete;
    virtual ~Stepper() = default;
    // Reads x, B * I elements (float64 ones too) or B ids, and writes y, B * P elements, each of
    // any shape. `real` and `cut` are None or B flags: rows that are not real keep their state, and
    // their y is 0; rows that are cut start from `initial`. Returns the number of threads, or 0 if
    // nothing was done: because an array is not contiguous, aligned and of its dtype, y is
    // read-only, x and y overlap, or an id is out of range.
    virtual int step(const py::array& x, py::array& y, const py::object& real,
                     const py::object& cut) = 0;
    virtual void undo() = 0;                          // undoes the last step; only one step
    virtual py::tuple states() const = 0;             // copies, (1, B, P) and (1, B, H)
    virtual void load(const py::object& states) = 0;  // sets the states
};

template <class T>
class StepperOf final : public Stepper {
  public:
    // `inputs` have x or tokens of one step, of the kind that the steps will get, and no states;
    // there is one direction. No Reading of the weights is held between steps: each step asks for
    // the panels that are valid then.
    StepperOf(PackedWeights& weights, const py::tuple& inputs, Asked asked)
        : weights_(weights),
          job_({&ready(weights)}, inputs, Walk::kInference, asked),
          scratch_(job_.layout.fwd_total),
          flops_(step_flops(job_.request)) {
        if (job_.layout.steps != 1 || !job_.whole())
            throw py::value_error("stepper: expected one step");
        job_.fill(call_);
        call_.x_step = call_.x_row = job_.layout.input;
        call_.y_step = call_.y_row = job_.layout.output;
        auto& dir = call_.direction[0];
        job_.fill(dir, 0, Form::kForward);
        dir.saved = nullptr;
        dir.scratch = scratch_.data();
        for (Index k = 0; k < job_.states(); ++k)
            for (auto& set : states_) set[k].assign(items(k), T(0));
        tokens_ = call_.tokens != nullptr;
        job_.release();
    }

    int step(const py::array& x, py::array& y, const py::object& real,
             const py::object& cut) override {
        const Layout& at = job_.layout;
        const bool *live = nullptr, *anew = nullptr;
        if (!plain<T>(y, at.batch * at.output) || !y.writeable() || !flags(real, live) ||
            !flags(cut, anew) || !(tokens_ ? read_tokens(x) : read_x(x, y)))
            return 0;
        call_.y = static_cast<T*>(y.mutable_data());
        const PackedWeights::Reading reading(weights_);
        auto& dir = call_.direction[0];
        const auto panels = weights_.panels(Form::kForward);
        dir.pack = panels->data();
        for (Index k = 0; k < job_.states(); ++k) {
            dir.state_in[k] = anew == nullptr ? states_[now_][k].data() : started(k, anew);
            dir.state_out[k] = states_[1 - now_][k].data();
        }
        const int used = flops_ < kShort ? once() : sliced();
        if (live != nullptr) keep(live);
        ++call_.sweep;
        now_ = 1 - now_;
        return used;
    }

    void undo() override { now_ = 1 - now_; }

    py::tuple states() const override {
        Collected<T> out;
        for (Index k = 0; k < job_.states(); ++k) {
            const std::vector<T>& state = states_[now_][k];
            std::copy(state.begin(), state.end(), out.add(job_.state_shape(k)));
        }
        return out.tuple();
    }

    void load(const py::object& given) override {
        const T* from[kMaxStates];
        job_.states_of(given, "states", 0, from);
        for (Index k = 0; k < job_.states(); ++k)
            if (from[k] != nullptr) std::copy_n(from[k], items(k), states_[now_][k].begin());
    }

  private:
    // Flops of a step below which it keeps the interpreter's lock: it ends before another thread
    // could use the lock.
    static constexpr double kShort = 1e6;

    // Makes the panels before the first step, because many steps will read them.
    static PackedWeights& ready(PackedWeights& weights) {
        const PackedWeights::Reading reading(weights);
        weights.panels(Form::kForward);
        return weights;
    }

    // B flags, or null for None; false if they do not suit.
    bool flags(const py::object& given, const bool*& out) const {
        if (given.is_none()) return true;
        if (!py::isinstance<py::array_t<bool, 0>>(given)) return false;
        const auto array = py::reinterpret_borrow<py::array>(given);
        out = static_cast<const bool*>(array.data());
        return array.ndim() == 1 && plain<bool>(array, job_.layout.batch);
    }

    bool read_x(const py::array& x, const py::array& y) {
        const Index items = job_.layout.batch * job_.layout.input;
        if (!plain<T>(x, items)) return sizeof(T) == 4 && plain<double>(x, items) && convert(x);
        call_.x = static_cast<const T*>(x.data());
        const auto* to = static_cast<const T*>(y.data());
        const std::less<const T*> before;
        return !before(call_.x, to + y.size()) || !before(to, call_.x + x.size());
    }

    // Rounds a float64 x to float32. A number that is too large for float32 does not suit: NumPy,
    // which then converts it, warns of it.
    bool convert(const py::array& x) {
        const auto* from = static_cast<const double*>(x.data());
        converted_.resize(static_cast<std::size_t>(x.size()));
        bool fits = true;
        for (std::size_t i = 0; i < converted_.size(); ++i) {
            converted_[i] = static_cast<T>(from[i]);
            fits = fits && (std::isfinite(converted_[i]) || !std::isfinite(from[i]));
        }
        call_.x = converted_.data();
        return fits;
    }

    bool read_tokens(const py::array& ids) {
        if (!plain<Index>(ids, job_.layout.batch)) return false;
        call_.tokens = static_cast<const Index*>(ids.data());
        return std::all_of(call_.tokens, call_.tokens + job_.layout.batch,
                           [&](Index id) { return id >= 0 && id < job_.layout.input; });
    }

    // State k with `initial` in the rows that are cut. The state itself stays as it is, for undo().
    const T* started(Index k, const bool* anew) {
        std::vector<T>& state = started_[k];
        state = states_[now_][k];
        const Index width = job_.state_width(k);
        const T* initial = call_.direction[0].initial[k];
        for (Index b = 0; b < job_.layout.batch; ++b) {
            T* row = state.data() + b * width;
            if (!anew[b]) continue;
            if (initial == nullptr)
                std::fill_n(row, width, T(0));
            else
                std::copy_n(initial + b * width, width, row);
        }
        return state.data();
    }

    // After a step: rows that are not real go back to the state from which they came.
    void keep(const bool* live) {
        const auto& dir = call_.direction[0];
        for (Index b = 0; b < job_.layout.batch; ++b) {
            if (live[b]) continue;
            std::fill_n(call_.y + b * job_.layout.output, job_.layout.output, T(0));
            for (Index k = 0; k < job_.states(); ++k) {
                const Index width = job_.state_width(k);
                std::copy_n(dir.state_in[k] + b * width, width, dir.state_out[k] + b * width);
            }
        }
    }

    std::size_t items(Index k) const {
        return static_cast<std::size_t>(job_.layout.batch * job_.state_width(k));
    }

    template <class E>
    static bool plain(const py::array& array, Index items) {
        constexpr int wanted = kContiguous | kAligned;
        return array.size() == items && (array.flags() & wanted) == wanted &&
               py::isinstance<py::array_t<E, 0>>(array);
    }

    int once() {
        call_.begin = 0;
        call_.end = 1;
        call_.part = {0, 1};
        return run(job_.kernel().forward, &call_, job_.team, call_.barrier);
    }

    int sliced() {
        const py::gil_scoped_release free;
        return drive_forward<T>({job_.kernel().forward, {&call_, 1}, job_.team},
                                Slices(flops_, poll_signals));
    }

    PackedWeights& weights_;
    Job<T> job_;
    Scratch<T> scratch_;
    const double flops_;
    Forward<T> call_{};
    std::vector<T> states_[2][kMaxStates];  // [now_] is current; a step writes the other
    std::vector<T> started_[kMaxStates];    // what a step with cut rows starts from
    std::vector<T> converted_;              // x, if it came as float64
    bool tokens_ = false;
    int now_ = 0;
};

}  // namespace fusedrnn
