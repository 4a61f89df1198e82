// One forward or backward call: allocate, fill the struct, drop the GIL, drive.
#pragma once

#include <optional>

#include "job.hpp"

namespace fusedrnn {

// Between two slices of a long call: Ctrl-C, and whatever else has a handler.
inline void poll_signals() {
    const py::gil_scoped_acquire hold;
    if (PyErr_CheckSignals() != 0) throw py::error_already_set();
}

// Steps that nobody executes leave no trace but zeros.
template <class T>
void clear_unless(bool whole, py::array_t<T>& array) {
    if (!whole) std::memset(array.mutable_data(), 0, static_cast<std::size_t>(array.nbytes()));
}

template <class T>
py::tuple run_forward(const Job<T>& job, const std::vector<py::object>& packs,
                      const std::vector<Pack<T>>& unpacked = {}) {
    const Layout& at = job.layout;
    Forward<T> call{};
    job.fill(call);
    py::array_t<T> y = empty<T>(job.shape_of(at.directions * at.output));
    clear_unless(job.whole(), y);
    call.y = y.mutable_data();
    std::optional<py::array_t<T>> saved;
    if (job.request.save) saved = aligned<T>(job.saved_shape());
    const Scratch<T> scratch(at.fwd_total * at.directions);
    Collected<T> states;
    for (int d = 0; d < at.directions; ++d) {
        auto& dir = call.direction[d];
        if (unpacked.empty())
            job.fill(dir, d, packs[static_cast<std::size_t>(d)], at.pack_total);
        else
            job.fill(dir, d);
        for (Index k = 0; k < job.states(); ++k)
            dir.state_out[k] = (d == 0 ? states.add(job.state_shape(k)) : states.at(k)) +
                               d * at.batch * job.state_width(k);
        dir.saved =
            saved ? saved->mutable_data() + d * at.steps * at.batch * at.saved_row : nullptr;
        dir.scratch = scratch.data() + d * at.fwd_total;
        if (!unpacked.empty())
            read_unpacked(kernels_of<T>(job.table), unpacked[static_cast<std::size_t>(d)], dir);
    }
    int used = 1;
    {
        const py::gil_scoped_release free;
        const Slices slices(step_flops(job.request) * at.directions, poll_signals);
        used = drive_forward(job.kernel(), call, job.team, slices);
    }
    return py::make_tuple(y, states.tuple(), saved ? py::object(*saved) : py::none(), used);
}

// What only a backward call is given.
struct Incoming {
    const py::object &y, &saved, &dy, &dstates, &dcells, &dgates;
    bool want_dx;
};

template <class T>
py::tuple run_backward(const Job<T>& job, const std::vector<py::object>& packs,
                       const Incoming& given) {
    const Layout& at = job.layout;
    const CellInfo& cell = job.request.cell;
    Backward<T> call{};
    job.fill(call);
    const std::vector<Index> y_shape = job.shape_of(at.directions * at.output);
    call.y = view<T>(given.y, "y", y_shape);
    call.dy = view<T>(given.dy, "dy", y_shape);
    const T* saved = view<T>(given.saved, "saved", job.saved_shape());
    if (call.y == nullptr || saved == nullptr)
        throw py::value_error("saved: expected what the forward call returned");
    py::object dx = py::none();
    if (given.want_dx && call.tokens == nullptr) {
        py::array_t<T> array = empty<T>(job.shape_of(at.input));
        clear_unless(job.whole(), array);
        call.dx = array.mutable_data();
        std::tie(call.dx_step, call.dx_row) = job.strides_of(at.input);
        dx = std::move(array);
    }
    const Index n = cell.x_gates, rows = n * at.hidden, cells = at.steps * at.batch;
    const T* dcells = job.each_step(given.dcells, "dcells", {at.hidden});
    const T* dgates = job.each_step(given.dgates, "dgates", {n, at.hidden});
    const bool recurrent = cell.h_first < cell.gates;
    const Scratch<T> scratch(at.bwd_total);
    Collected<T> dstates;
    py::list directions;
    for (int d = 0; d < at.directions; ++d) {
        auto& dir = call.direction[d];
        Collected<T> gradients;
        dir.dw = gradients.add({rows, at.input});
        dir.dr = gradients.add({rows, at.output}, recurrent);
        dir.db_x = gradients.add({rows});
        dir.db_h = gradients.add({rows}, recurrent);
        dir.dp = gradients.add({cell.vectors, at.hidden}, cell.vectors > 0);
        dir.dproject = gradients.add({at.output, at.hidden}, at.project);
        job.fill(dir, d, packs[static_cast<std::size_t>(d)], at.back_total);
        job.states_of(given.dstates, "dstates", d, dir.dstate_out);
        for (Index k = 0; k < job.states(); ++k)
            dir.dstate_in[k] = (d == 0 ? dstates.add(job.state_shape(k)) : dstates.at(k)) +
                               d * at.batch * job.state_width(k);
        dir.saved = saved + d * cells * at.saved_row;
        dir.dcell = job.part(d, dcells, cells * at.hidden);
        dir.dgate = job.part(d, dgates, cells * rows);
        dir.scratch = scratch.data();
        dir.add_dx = d > 0;
        directions.append(gradients.tuple());
    }
    int used = 1;
    {
        const py::gil_scoped_release free;
        const Slices slices(step_flops(job.request) * 3, poll_signals);
        used = drive_backward(job.kernel(), call, job.team, slices);
    }
    return py::make_tuple(dx, py::tuple(directions), dstates.tuple(), used);
}

}  // namespace fusedrnn
