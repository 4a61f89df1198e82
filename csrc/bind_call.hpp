// One forward or backward call: verify, allocate, fill the struct, drop the GIL, drive.
#pragma once

#include <algorithm>
#include <optional>

#include "bind_arrays.hpp"
#include "dispatch.hpp"
#include "drive.hpp"
#include "layout.hpp"
#include "team.hpp"

namespace fusedrnn {

inline int cell_index(const Table& table, const std::string& name) {
    for (int i = 0; i < table.cells; ++i)
        if (name == table.info[i].name) return i;
    throw py::value_error("cell: got '" + name + "', which _core does not have");
}

// The arguments that forward and backward share, verified; owns the schedule's arrays.
template <class T>
class Job {
  public:
    Job(const std::string& isa, const std::string& cell, const std::vector<py::object>& packs,
        Index input, Index hidden, const py::object& x, const py::object& tokens,
        const py::object& lengths, const py::object& reset, bool save, int threads)
        : table(find_isa(isa)), cell_number(cell_index(table, cell)) {
        const py::object& shaped = tokens.is_none() ? x : tokens;
        if (!py::isinstance<py::array>(shaped) || shaped.attr("ndim").cast<int>() < 2)
            throw py::value_error("x: expected an array of shape (T, B, I), or tokens of (T, B)");
        const auto array = py::reinterpret_borrow<py::array>(shaped);
        if (packs.empty() || packs.size() > kMaxDirections)
            throw py::value_error("weights: expected one or two directions");
        request = Request{table.info[cell_number], array.shape(0), array.shape(1), input, hidden,
                          static_cast<int>(packs.size()), threads, save, !tokens.is_none(),
                          static_cast<Index>(sizeof(T))};
        plan = plan_threads(request, std::max(1, threads > 0 ? threads : default_threads()));
        request.threads = plan.threads;
        if (!make_layout(request, layout))
            throw py::value_error("sizes: T, B, I and H are too large to be addressed");
        read_input(x, tokens);
        read_lengths(lengths);
        const std::vector<Index> shape{layout.steps, layout.batch};
        schedule.reset = view<std::uint8_t>(reset, "reset", shape);
        schedule.reset_step = layout.batch;
        schedule.reset_row = 1;
    }

    void fill(Call<T>& call) const {
        call.layout = layout;
        call.schedule = schedule;
        call.split = plan.split;
        call.x = input.data;
        call.x_step = input.step;
        call.x_row = input.row;
        call.tokens = tokens;
        call.y_row = layout.directions * layout.hidden;
        call.y_step = layout.batch * call.y_row;
    }

    const CellKernels<T>& kernel() const { return kernels_of<T>(table).cells[cell_number]; }
    bool whole() const { return schedule.row == nullptr; }
    Index states() const { return request.cell.states; }
    std::vector<Index> state_shape() const {
        return {layout.directions, layout.batch, layout.hidden};
    }
    std::vector<Index> y_shape() const {
        return {layout.steps, layout.batch, layout.directions * layout.hidden};
    }
    std::vector<Index> saved_shape() const {
        const Index block = kBlockBytes / static_cast<Index>(sizeof(T));
        return {layout.directions, layout.steps,       layout.batch, layout.padded / block,
                layout.saved_row / layout.padded, block};
    }

    // Pointers of direction d in a list of state arrays (D, B, H); None gives null.
    void states_of(const py::object& list, const char* name, int d,
                   const T* (&out)[kMaxStates]) const {
        for (auto& p : out) p = nullptr;
        if (list.is_none()) return;
        const auto states_given = list.cast<std::vector<py::object>>();
        if (static_cast<Index>(states_given.size()) != states())
            throw py::value_error(std::string(name) + ": expected one array per state");
        for (std::size_t k = 0; k < states_given.size(); ++k) {
            const T* base = view<T>(states_given[k], name, state_shape());
            out[k] = base == nullptr ? nullptr : base + d * layout.batch * layout.hidden;
        }
    }

    const Table& table;
    int cell_number;
    Request request;
    Plan plan;
    Layout layout;
    Schedule schedule{};
    Strided<T> input{};
    const Index* tokens = nullptr;

  private:
    void read_input(const py::object& x, const py::object& ids) {
        if (!ids.is_none()) {
            tokens = view<Index>(ids, "tokens", {layout.steps, layout.batch});
            const Index n = layout.steps * layout.batch;
            for (Index i = 0; i < n; ++i)
                if (tokens[i] < 0 || tokens[i] >= layout.input)
                    throw py::value_error("tokens: an index is outside [0, input_size)");
        } else {
            input = strided<T>(x, "x", {layout.steps, layout.batch, layout.input});
        }
    }

    void read_lengths(const py::object& given) {
        const Index steps = layout.steps, batch = layout.batch;
        const Index* length = view<Index>(given, "lengths", {batch});
        if (length == nullptr) return;
        if (!std::all_of(length, length + batch, [&](Index n) { return n >= 0 && n <= steps; }))
            throw py::value_error("lengths: a length is outside [0, T]");
        ranks_.order(length, batch, steps, schedule);
    }

    Ranks ranks_;
};

// Between two slices of a long call: Ctrl-C, and whatever else has a handler.
inline void poll_signals() {
    const py::gil_scoped_acquire hold;
    if (PyErr_CheckSignals() != 0) throw py::error_already_set();
}

template <class T>
py::tuple run_forward(const Job<T>& job, const std::vector<py::object>& packs,
                      const py::object& states, const py::object& initial) {
    const Layout& at = job.layout;
    Forward<T> call{};
    job.fill(call);
    py::array_t<T> y = empty<T>(job.y_shape());
    if (!job.whole()) std::memset(y.mutable_data(), 0, static_cast<std::size_t>(y.nbytes()));
    call.y = y.mutable_data();
    std::optional<py::array_t<T>> saved;
    if (job.request.save) saved = aligned<T>(job.saved_shape());
    const Scratch<T> scratch(at.fwd_total * at.directions);
    py::list out;
    for (Index k = 0; k < job.states(); ++k) out.append(empty<T>(job.state_shape()));
    for (int d = 0; d < at.directions; ++d) {
        auto& dir = call.direction[d];
        dir.pack = view<T>(packs[static_cast<std::size_t>(d)], "pack", {at.pack_total});
        if (dir.pack == nullptr) throw py::value_error("pack: expected an array");
        job.states_of(states, "states", d, dir.state_in);
        job.states_of(initial, "initial", d, dir.initial);
        for (Index k = 0; k < job.states(); ++k)
            dir.state_out[k] = out[static_cast<std::size_t>(k)].cast<py::array_t<T>>().mutable_data() +
                               d * at.batch * at.hidden;
        dir.saved = saved ? saved->mutable_data() + d * at.steps * at.batch * at.saved_row : nullptr;
        dir.scratch = scratch.data() + d * at.fwd_total;
    }
    int used = 1;
    {
        const py::gil_scoped_release free;
        const Slices slices(step_flops(job.request) * at.directions, poll_signals);
        used = drive_forward(job.kernel(), call, job.plan.threads, slices);
    }
    return py::make_tuple(y, py::tuple(out), saved ? py::object(*saved) : py::none(), used);
}

template <class T>
struct BackwardArrays {
    const py::object &y, &states, &saved, &dy, &dstates, &initial;
    bool want_dx;
};

template <class T>
py::tuple run_backward(const Job<T>& job, const std::vector<py::object>& packs,
                       const BackwardArrays<T>& given) {
    const Layout& at = job.layout;
    const CellInfo& cell = job.request.cell;
    Backward<T> call{};
    job.fill(call);
    call.y = view<T>(given.y, "y", job.y_shape());
    call.dy = view<T>(given.dy, "dy", job.y_shape());
    const T* saved = view<T>(given.saved, "saved", job.saved_shape());
    if (call.y == nullptr || saved == nullptr)
        throw py::value_error("saved: expected what the forward call returned");
    py::object dx = py::none();
    if (given.want_dx && call.tokens == nullptr) {
        py::array_t<T> array = empty<T>({at.steps, at.batch, at.input});
        if (!job.whole()) std::memset(array.mutable_data(), 0, static_cast<std::size_t>(array.nbytes()));
        call.dx = array.mutable_data();
        dx = std::move(array);
    }
    py::list dstates, directions;
    for (Index k = 0; k < job.states(); ++k) dstates.append(empty<T>(job.state_shape()));
    const Scratch<T> scratch(at.bwd_total);
    const Index rows = cell.x_gates * at.hidden;
    const bool recurrent = cell.h_first < cell.gates;
    for (int d = 0; d < at.directions; ++d) {
        auto& dir = call.direction[d];
        py::list out;
        auto gradient = [&](bool has, const std::vector<Index>& shape) -> T* {
            if (!has) return out.append(py::none()), nullptr;
            out.append(empty<T>(shape));
            return out[out.size() - 1].template cast<py::array_t<T>>().mutable_data();
        };
        dir.dw = gradient(true, {rows, at.input});
        dir.dr = gradient(recurrent, {rows, at.hidden});
        dir.db_x = gradient(true, {rows});
        dir.db_h = gradient(recurrent, {rows});
        dir.dp = gradient(cell.vectors > 0, {cell.vectors, at.hidden});
        dir.pack = view<T>(packs[static_cast<std::size_t>(d)], "pack", {at.back_total});
        if (dir.pack == nullptr) throw py::value_error("pack: expected an array");
        job.states_of(given.states, "states", d, dir.state_in);
        job.states_of(given.initial, "initial", d, dir.initial);
        job.states_of(given.dstates, "dstates", d, dir.dstate_out);
        for (Index k = 0; k < job.states(); ++k)
            dir.dstate_in[k] = dstates[static_cast<std::size_t>(k)].cast<py::array_t<T>>().mutable_data() +
                               d * at.batch * at.hidden;
        dir.saved = saved + d * at.steps * at.batch * at.saved_row;
        dir.scratch = scratch.data();
        dir.add_dx = d > 0;
        directions.append(py::tuple(out));
    }
    int used = 1;
    {
        const py::gil_scoped_release free;
        const Slices slices(step_flops(job.request) * 3, poll_signals);
        used = drive_backward(job.kernel(), call, job.plan.threads, slices);
    }
    return py::make_tuple(dx, py::tuple(directions), py::tuple(dstates), used);
}

}  // namespace fusedrnn
