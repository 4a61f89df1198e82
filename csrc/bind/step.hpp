// Runs one layer, one step at a time. What is the same for every step is verified, allocated and
// filled in once, so that a step only checks its two arrays and runs the kernel.
#pragma once

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
    // Reads x, B * I elements, and writes y, B * P elements, each of any shape. Returns the number
    // of threads, or 0 if nothing was done: because an array is not contiguous, aligned and of the
    // layer's dtype, y is read-only, or the two overlap.
    virtual int step(const py::array& x, py::array& y) = 0;
    virtual void undo() = 0;                          // undoes the last step; only one step
    virtual py::tuple states() const = 0;             // copies, (1, B, P) and (1, B, H)
    virtual void load(const py::object& states) = 0;  // sets the states
};

template <class T>
class StepperOf final : public Stepper {
  public:
    // `inputs` have an x of one step and no states; there is one direction. No Reading of the
    // weights is held between steps: each step asks for the panels that are valid then.
    StepperOf(PackedWeights& weights, const py::tuple& inputs, Asked asked)
        : weights_(weights),
          job_({&ready(weights)}, inputs, Walk::kInference, asked),
          scratch_(job_.layout.fwd_total),
          flops_(step_flops(job_.request)) {
        if (job_.layout.steps != 1 || !job_.whole())
            throw py::value_error("stepper: expected one step");
        job_.fill(call_);
        if (call_.tokens != nullptr) throw py::value_error("stepper: expected x");
        call_.x_step = call_.x_row = job_.layout.input;
        call_.y_step = call_.y_row = job_.layout.output;
        auto& dir = call_.direction[0];
        job_.fill(dir, 0, Form::kForward);
        dir.saved = nullptr;
        dir.scratch = scratch_.data();
        for (Index k = 0; k < job_.states(); ++k)
            for (auto& set : states_) set[k].assign(items(k), T(0));
        job_.release();
    }

    int step(const py::array& x, py::array& y) override {
        const Layout& at = job_.layout;
        if (!plain(x, at.batch * at.input) || !plain(y, at.batch * at.output) || !y.writeable())
            return 0;
        call_.x = static_cast<const T*>(x.data());
        call_.y = static_cast<T*>(y.mutable_data());
        const std::less<const T*> before;
        if (before(call_.x, call_.y + y.size()) && before(call_.y, call_.x + x.size())) return 0;
        const PackedWeights::Reading reading(weights_);
        auto& dir = call_.direction[0];
        const auto panels = weights_.panels(Form::kForward);
        dir.pack = panels->data();
        for (Index k = 0; k < job_.states(); ++k) {
            dir.state_in[k] = states_[now_][k].data();
            dir.state_out[k] = states_[1 - now_][k].data();
        }
        const int used = flops_ < kShort ? once() : sliced();
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

    std::size_t items(Index k) const {
        return static_cast<std::size_t>(job_.layout.batch * job_.state_width(k));
    }

    static bool plain(const py::array& array, Index items) {
        constexpr int wanted = kContiguous | kAligned;
        return array.size() == items && (array.flags() & wanted) == wanted &&
               py::isinstance<py::array_t<T, 0>>(array);
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
    int now_ = 0;
};

}  // namespace fusedrnn
