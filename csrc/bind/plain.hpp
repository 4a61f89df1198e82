// One inference call on the arrays that a function was given, without objects that outlive it. A
// function of plain arrays is called with weights that it has never seen: if each argument is what
// the kernels read, everything between its caller and the kernel happens here.
#pragma once

#include "call.hpp"

namespace fusedrnn {

// Whether `given` is a NumPy array, of no subclass, that the kernels can read: of T, C-contiguous,
// aligned and of this shape. Raises nothing: the caller has the texts about arguments.
template <class T>
bool plain(const py::handle& given, std::initializer_list<Index> shape) {
    if (Py_TYPE(given.ptr()) != py::detail::npy_api::get().PyArray_Type_) return false;
    const auto array = py::reinterpret_borrow<py::array>(given);
    constexpr int wanted = kContiguous | kAligned;
    return array.ndim() == static_cast<py::ssize_t>(shape.size()) &&
           std::equal(shape.begin(), shape.end(), array.shape()) &&
           (array.flags() & wanted) == wanted && py::isinstance<py::array_t<T, 0>>(array);
}

template <class T>
bool plain_or_none(const py::handle& given, std::initializer_list<Index> shape) {
    return given.is_none() || plain<T>(given, shape);
}

// x (T, B, I), none of them 0; `weights` as PackedWeights take them; `states`: all (B, P), (B, H),
// or all None. Returns (y, last states as `states`, number of threads), or None, and nothing was
// done, if an argument is not plain.
template <class T>
py::object run_plain(const std::string& isa, const std::string& name, const py::array& x,
                     const py::tuple& weights, const py::tuple& states, Asked asked) {
    const Table& table = find_isa(isa);
    const CellInfo& cell = table.info[cell_index(table, name)];
    const py::object w_ih = weights[0], w_hh = weights[1], w_hr = weights[5];
    if (x.ndim() != 3 || x.size() == 0 || !py::isinstance<py::array>(w_ih)) return py::none();
    const Index batch = x.shape(1), input = x.shape(2);
    const auto first = py::reinterpret_borrow<py::array>(w_ih);
    const Index rows = first.ndim() == 2 ? first.shape(0) : 0, hidden = rows / cell.x_gates;
    if (hidden == 0 || rows != hidden * cell.x_gates) return py::none();
    Index output = hidden;
    if (!w_hr.is_none()) {
        if (!py::isinstance<py::array>(w_hr)) return py::none();
        const auto project = py::reinterpret_borrow<py::array>(w_hr);
        if (project.ndim() != 2 || project.shape(0) == 0) return py::none();
        output = project.shape(0);
    }
    if (!plain<T>(x, {x.shape(0), batch, input}) || !plain<T>(w_ih, {rows, input}) ||
        !plain<T>(w_hh, {rows, output}) || !plain_or_none<T>(weights[2], {rows}) ||
        !plain_or_none<T>(weights[3], {rows}) ||
        !plain_or_none<T>(weights[4], {cell.vectors, hidden}) ||
        !plain_or_none<T>(w_hr, {output, hidden}))
        return py::none();
    py::object given = py::none();
    if (!states[0].is_none()) {
        py::tuple parts(states.size());
        for (std::size_t k = 0; k < states.size(); ++k) {
            const Index width = k == 0 ? output : hidden;
            if (!plain<T>(states[k], {batch, width})) return py::none();
            parts[k] =
                py::reinterpret_borrow<py::array>(states[k]).reshape({Index{1}, batch, width});
        }
        given = std::move(parts);
    } else {
        for (const py::handle& state : states)
            if (!state.is_none()) return py::none();
    }
    py::tuple inputs(std::size_t{kFields});
    for (std::size_t field = 0; field < kFields; ++field) inputs[field] = py::none();
    inputs[kX] = x;
    inputs[kStates] = given;
    PackedWeights packed(isa, name, weights, py::none());
    Job<T> job({&packed}, std::move(inputs), Walk::kInference, asked);
    const py::object none = py::none();
    const py::tuple out = run_forward(job, {none, none, none});
    const py::tuple directions = out[1];
    py::tuple last(directions.size());
    for (std::size_t k = 0; k < last.size(); ++k) {
        const auto state = py::reinterpret_borrow<py::array>(directions[k]);
        last[k] = py::array_t<T>({state.shape(1), state.shape(2)},
                                 static_cast<const T*>(state.data()), state);
    }
    return py::make_tuple(out[0], last, out[3]);
}

}  // namespace fusedrnn
