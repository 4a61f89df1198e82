// Runs one forward or backward call: verifies or allocates the outputs, fills the struct, releases
// the interpreter's lock and drives the kernel.
#pragma once

#include <array>
#include <memory>
#include <optional>

#include "job.hpp"

namespace fusedrnn {

// Runs the handlers of signals (Ctrl-C and others) between two slices of a long call.
inline void poll_signals() {
    const py::gil_scoped_acquire hold;
    if (PyErr_CheckSignals() != 0) throw py::error_already_set();
}

// An output is asked for by None (not wanted), True (a new array) or the caller's array.
inline bool wanted(const py::object& given) { return !given.is_none(); }
inline bool brought(const py::object& given) { return py::isinstance<py::array>(given); }

// The array that a caller brought as an output.
inline py::array writable(const py::object& given, const char* name) {
    auto array = py::reinterpret_borrow<py::array>(given);
    if (!array.writeable())
        throw py::value_error(std::string(name) + ": expected a writable array");
    return array;
}

// An output [T][B][n] with any strides in its first two dimensions. Kernels skip padded steps, so
// the array is cleared first unless `every_step` is executed.
template <class T>
struct StepsOut {
    StepsOut(const py::object& given, const char* name, const std::vector<Index>& shape,
             bool every_step) {
        if (!brought(given)) {
            py::array_t<T> made = empty<T>(shape);
            if (!every_step)
                std::memset(made.mutable_data(), 0, static_cast<std::size_t>(made.nbytes()));
            array = made;
        } else {
            array = writable(given, name);
        }
        const Strided<T> found = strided<T>(array, name, shape);
        data = const_cast<T*>(found.data);
        step = found.step;
        row = found.row;
        if (brought(given) && !every_step)
            for (Index t = 0; t < shape[0]; ++t)
                for (Index b = 0; b < shape[1]; ++b)
                    std::fill_n(data + t * step + b * row, shape[2], T(0));
    }

    py::array array;
    T* data = nullptr;
    Index step = 0, row = 0;
};

// Refuses outputs of the caller that overlap an input or another output. Compares the bytes from
// the first to the last element, so arrays that interleave are refused too. Arrays that bind/
// allocates overlap nothing. The weights count as inputs even if a call reads panels: an output
// that lies in them would change the layer.
class Apart {
  public:
    void read(const py::object& given) {
        if (brought(given)) inputs_.push_back(range(given));
    }
    void write(const py::object& given, const char* name) {
        if (!brought(given)) return;
        const Range out = range(given);
        for (const auto* list : {&inputs_, &outputs_})
            for (const Range& other : *list)
                if (out.begin < other.end && other.begin < out.end)
                    throw py::value_error(std::string(name) +
                                          ": shares memory with another array of the call");
        outputs_.push_back(out);
    }

  private:
    struct Range {
        std::uintptr_t begin, end;
    };
    static Range range(const py::object& given) {
        const auto a = py::reinterpret_borrow<py::array>(given);
        auto begin = reinterpret_cast<std::uintptr_t>(a.data()), end = begin;
        if (a.size() == 0) return {begin, begin};
        for (py::ssize_t i = 0; i < a.ndim(); ++i) {
            const py::ssize_t reach = a.strides(i) * (a.shape(i) - 1);
            if (reach < 0)
                begin -= static_cast<std::uintptr_t>(-reach);
            else
                end += static_cast<std::uintptr_t>(reach);
        }
        return {begin, end + static_cast<std::uintptr_t>(a.itemsize())};
    }
    std::vector<Range> inputs_, outputs_;
};

// A contiguous output of exactly this shape: new, or the caller's.
template <class T>
py::array contiguous_out(const py::object& given, const char* name,
                         const std::vector<Index>& shape) {
    if (!brought(given)) return empty<T>(shape);
    view<T>(given, name, shape);
    return writable(given, name);
}

template <class T>
T* pointer(const py::array& array) {
    return static_cast<T*>(const_cast<void*>(array.data()));
}

// The outputs of a forward call. y, states: None (a new array) or the caller's arrays; saved: None
// (not wanted), True (a new array) or the caller's array.
struct ForwardOut {
    const py::object &y, &states, &saved;
};

// One array for each state, (D, B, P) and (D, B, H): final states, or gradients of the first ones.
template <class T>
std::vector<py::array> states_out(const Job<T>& job, const py::object& given, const char* name) {
    std::vector<py::array> out;
    for (Index k = 0; k < job.states(); ++k) {
        const py::object part = py::isinstance<py::sequence>(given)
                                    ? py::object(job.item(given, name, k))
                                    : py::object(py::none());
        out.push_back(contiguous_out<T>(part, name, job.state_shape(k)));
    }
    return out;
}

inline py::tuple tuple_of(const std::vector<py::array>& arrays) {
    py::tuple out(arrays.size());
    for (std::size_t i = 0; i < arrays.size(); ++i) out[i] = arrays[i];
    return out;
}

// Fills in the rest of a forward call and makes the arrays that it writes.
template <class T>
class ForwardRun {
  public:
    ForwardRun(Job<T>& job, const ForwardOut& given, Forward<T>& call)
        : y_(kept_apart(job, given).y, "y", job.steps_of(job.layout.directions * job.layout.output),
             job.whole()),
          scratch_(job.layout.fwd_total * job.layout.directions),
          states_(states_out(job, given.states, "final")) {
        const Layout& at = job.layout;
        job.fill(call);
        call.y = y_.data;
        call.y_step = y_.step;
        call.y_row = y_.row;
        if (job.request.save) {
            if (brought(given.saved))
                saved_ = contiguous_out<T>(given.saved, "saved", job.saved_shape());
            else
                saved_ = aligned<T>(job.saved_shape());
        }
        for (int d = 0; d < at.directions; ++d) {
            auto& dir = call.direction[d];
            job.fill(dir, d, Form::kForward);
            for (Index k = 0; k < job.states(); ++k)
                dir.state_out[k] = pointer<T>(states_[static_cast<std::size_t>(k)]) +
                                   d * at.batch * job.state_width(k);
            dir.saved =
                saved_ ? pointer<T>(*saved_) + d * at.steps * at.batch * at.saved_row : nullptr;
            dir.scratch = scratch_.data() + d * at.fwd_total;
            if (job.request.unpacked)
                read_unpacked(kernels_of<T>(job.first.table),
                              job.packs[static_cast<std::size_t>(d)]->template arrays<T>(at), dir);
        }
    }

    // `used`: the number of threads.
    py::tuple results(int used) const {
        return py::make_tuple(y_.array, tuple_of(states_),
                              saved_ ? py::object(*saved_) : py::none(), used);
    }

  private:
    static const ForwardOut& kept_apart(const Job<T>& job, const ForwardOut& given) {
        const bool states = py::isinstance<py::sequence>(given.states);
        if (!brought(given.y) && !states && !brought(given.saved)) return given;
        Apart apart;
        job.each_input([&](const py::object& a) { apart.read(a); });
        apart.write(given.y, "y");
        for (Index k = 0; states && k < job.states(); ++k)
            apart.write(job.item(given.states, "final", k), "final");
        apart.write(given.saved, "saved");
        return given;
    }

    const StepsOut<T> y_;
    const Scratch<T> scratch_;
    const std::vector<py::array> states_;
    std::optional<py::array> saved_;
};

template <class T>
py::tuple run_forward(Job<T>& job, const ForwardOut& given) {
    Forward<T> call{};
    const ForwardRun<T> run(job, given, call);
    int used = 1;
    {
        const py::gil_scoped_release free;
        used =
            drive_forward<T>({job.kernel().forward, {&call, 1}, job.team},
                             Slices(step_flops(job.request) * job.layout.directions, poll_signals));
    }
    return run.results(used);
}

// The inputs that only a backward call has.
struct BackwardIn {
    const py::object &y, &saved, &dy, &dstates, &dcells, &dgates;
};

// The outputs of a backward call. `dx`, and `dstates` (gradients of the first states): None (not
// wanted), True (new arrays) or the caller's arrays. `dinitial`: whether it is wanted. `weights`:
// for each direction the gradients of w_ih, w_hh, b_ih, b_hh, p and w_hr, each None, True or an
// array; if the job has groups, with a first axis of groups. `add`: gradients are added to the
// caller's arrays of `weights`.
struct BackwardOut {
    const py::object &dx, &dstates, &weights;
    bool dinitial, add;
};

inline constexpr int kWeights = 6;

// One weight gradient. target() returns where the kernel writes it: the result or, if it is to be
// added to the caller's array, temporary memory. finish() then adds, one addition for each element.
template <class T>
class GradientOut {
  public:
    T* target(const py::object& given, const char* name, const std::vector<Index>& shape, bool has,
              bool add) {
        if (!has || !wanted(given)) return nullptr;
        array_ = contiguous_out<T>(given, name, shape);
        if (!add || !brought(given)) return pointer<T>(*array_);
        sum_ = std::make_unique<Scratch<T>>(static_cast<Index>(array_->size()));
        return sum_->data();
    }
    void finish() {
        if (sum_ == nullptr) return;
        T* to = pointer<T>(*array_);
        const T* from = sum_->data();
        for (py::ssize_t i = 0; i < array_->size(); ++i) to[i] += from[i];
    }
    py::object result() const { return array_ ? py::object(*array_) : py::object(py::none()); }

  private:
    std::optional<py::array> array_;
    std::unique_ptr<Scratch<T>> sum_;
};

// Refuses outputs of the caller that overlap an input or each other (see Apart).
template <class T>
void keep_apart(const Job<T>& job, const BackwardIn& given, const BackwardOut& out) {
    std::vector<py::object> brought_gradients;
    for (const py::handle& direction : out.weights)
        for (const py::handle& one : direction)
            if (brought(py::reinterpret_borrow<py::object>(one)))
                brought_gradients.push_back(py::reinterpret_borrow<py::object>(one));
    const bool states = py::isinstance<py::sequence>(out.dstates);
    if (brought_gradients.empty() && !brought(out.dx) && !states) return;
    Apart apart;
    job.each_input([&](const py::object& a) { apart.read(a); });
    for (const py::object* a : {&given.y, &given.saved, &given.dy, &given.dcells, &given.dgates})
        apart.read(*a);
    if (py::isinstance<py::sequence>(given.dstates))
        for (Index k = 0; k < job.states(); ++k) apart.read(job.item(given.dstates, "dstates", k));
    for (Index k = 0; states && k < job.states(); ++k)
        apart.write(job.item(out.dstates, "dstates", k), "dstates");
    apart.write(out.dx, "dx");
    for (const py::object& one : brought_gradients) apart.write(one, "weights");
}

// Fills in the rest of a backward call and makes the arrays that it writes.
template <class T>
class BackwardRun {
  public:
    BackwardRun(Job<T>& job, const BackwardIn& given, const BackwardOut& out, Backward<T>& call)
        : gradients_(static_cast<std::size_t>(job.layout.directions)) {
        const Layout& at = job.layout;
        const CellInfo& cell = job.request.cell;
        job.fill(call);
        const std::vector<Index> y_shape = job.steps_of(at.directions * at.output);
        const Strided<T> y = strided<T>(given.y, "y", y_shape);
        const Strided<T> dy = strided<T>(given.dy, "dy", y_shape);
        const T* saved = view<T>(given.saved, "saved", job.saved_shape());
        if (y.data == nullptr || saved == nullptr)
            throw py::value_error("saved: expected what the forward call returned");
        call.y = y.data;
        call.y_step = y.step;
        call.y_row = y.row;
        call.dy = dy.data;
        call.dy_step = dy.step;
        call.dy_row = dy.row;
        const bool list = py::isinstance<py::sequence>(out.weights);
        if (!list || static_cast<int>(py::len(out.weights)) != at.directions)
            throw py::value_error("weights: expected a list of six for each direction");
        keep_apart(job, given, out);
        if (wanted(out.dx) && call.tokens == nullptr)
            dx_.emplace(out.dx, "dx", job.steps_of(at.input), job.whole());
        const bool both = walked_together(call);
        if (dx_ && both) {
            const Index items = at.steps * at.batch * at.input;
            second_dx_.emplace(items);
            std::fill_n(second_dx_->data(), items, T(0));
        }
        const Index n = cell.x_gates, rows = n * at.hidden, cells = at.steps * at.batch;
        const T* dcells = job.each_step(given.dcells, "dcells", {at.hidden});
        const T* dgates = job.each_step(given.dgates, "dgates", {n, at.hidden});
        const bool recurrent = cell.h_first < cell.gates;
        scratch_.emplace(at.bwd_total * (both ? at.directions : 1));
        if (wanted(out.dstates)) dstates_ = states_out(job, out.dstates, "dstates");
        if (out.dinitial) dinitial_ = states_out(job, py::none(), "dinitial");
        for (const py::array& sum : dinitial_) std::fill_n(pointer<T>(sum), sum.size(), T(0));
        for (int d = 0; d < at.directions; ++d) {
            auto& dir = call.direction[d];
            auto& g = gradients_[static_cast<std::size_t>(d)];
            const py::sequence to = out.weights[py::int_(d)];
            if (py::len(to) != kWeights)
                throw py::value_error("weights: expected six of a direction");
            auto target = [&](std::size_t i, const char* name, std::vector<Index> shape, bool has) {
                if (at.group > 0) shape.insert(shape.begin(), at.batch / at.group);
                return g[i].target(to[i], name, shape, has, out.add);
            };
            dir.dw_ih = target(0, "dw_ih", {rows, at.input}, true);
            dir.dw_hh = target(1, "dw_hh", {rows, at.output}, recurrent);
            dir.db_ih = target(2, "db_ih", {rows}, true);
            dir.db_hh = target(3, "db_hh", {rows}, recurrent);
            dir.dp = target(4, "dp", {cell.vectors, at.hidden}, cell.vectors > 0);
            dir.dw_hr = target(5, "dw_hr", {at.output, at.hidden}, at.project);
            job.fill(dir, d, Form::kBackward);
            job.states_of(given.dstates, "dstates", d, dir.dstate_out);
            auto of_state = [&](const std::vector<py::array>& arrays, Index k) {
                return arrays.empty() ? nullptr
                                      : pointer<T>(arrays[static_cast<std::size_t>(k)]) +
                                            d * at.batch * job.state_width(k);
            };
            for (Index k = 0; k < job.states(); ++k) {
                dir.dstate_in[k] = of_state(dstates_, k);
                dir.dinitial[k] = of_state(dinitial_, k);
            }
            dir.saved = saved + d * cells * at.saved_row;
            dir.dcell = job.part(d, dcells, cells * at.hidden);
            dir.dgate = job.part(d, dgates, cells * rows);
            dir.scratch = scratch_->data() + (both ? d * at.bwd_total : 0);
            dir.add_dx = d > 0 && !both;
            if (second_dx_ && d > 0) {
                dir.dx = second_dx_->data();
                dir.dx_step = at.batch * at.input;
                dir.dx_row = at.input;
            } else if (dx_) {
                dir.dx = dx_->data;
                dir.dx_step = dx_->step;
                dir.dx_row = dx_->row;
            }
        }
    }

    // Adds to the caller's arrays what is to be added; after the call, without the lock.
    void finish() {
        for (auto& direction : gradients_)
            for (auto& one : direction) one.finish();
    }

    // `used`: the number of threads.
    py::tuple results(int used) const {
        py::tuple directions(gradients_.size());
        for (std::size_t d = 0; d < gradients_.size(); ++d) {
            py::tuple of(kWeights);
            for (std::size_t i = 0; i < kWeights; ++i) of[i] = gradients_[d][i].result();
            directions[d] = of;
        }
        auto states = [](const std::vector<py::array>& arrays) {
            return arrays.empty() ? py::object(py::none()) : py::object(tuple_of(arrays));
        };
        return py::make_tuple(dx_ ? py::object(dx_->array) : py::object(py::none()), directions,
                              states(dstates_), states(dinitial_), used);
    }

  private:
    std::optional<StepsOut<T>> dx_;
    std::optional<Scratch<T>> second_dx_, scratch_;
    std::vector<py::array> dstates_, dinitial_;
    std::vector<std::array<GradientOut<T>, kWeights>> gradients_;
};

template <class T>
py::tuple run_backward(Job<T>& job, const BackwardIn& given, const BackwardOut& out) {
    Backward<T> call{};
    BackwardRun<T> run(job, given, out, call);
    int used = 1;
    {
        const py::gil_scoped_release free;
        used = drive_backward<T>({job.kernel().backward, {&call, 1}, job.team},
                                 Slices(step_flops(job.request) * 3, poll_signals));
        run.finish();
    }
    return run.results(used);
}

}  // namespace fusedrnn
