// The arguments that forward and backward share, verified, as the structs of kernels.hpp.
#pragma once

#include <algorithm>
#include <tuple>

#include "arrays.hpp"
#include "outer/dispatch.hpp"
#include "outer/drive.hpp"
#include "outer/layout.hpp"
#include "outer/team.hpp"

namespace fusedrnn {

inline int cell_index(const Table& table, const std::string& name) {
    for (int i = 0; i < table.cells; ++i)
        if (name == table.info[i].name) return i;
    throw py::value_error("cell: got '" + name + "', which _core does not have");
}

// Where _backend.Inputs, a named tuple, keeps what.
enum Field : std::size_t {
    kX,
    kTokens,
    kStates,
    kLengths,
    kTimes,
    kCut,
    kInitial,
    kDrop,
    kKeep,
    kZoneout,
    kBatchFirst
};

// I, H, P and whether W_hr is there.
using Sizes = std::tuple<Index, Index, Index, bool>;

// (f, g, h, clip, coupled), an activation being (kind, alpha, beta); None where the cell's are
// fixed.
template <class T>
CellOptions<T> read_options(const py::object& given) {
    if (given.is_none()) return {};
    const auto fields = given.cast<py::tuple>();
    auto activation = [&](std::size_t i) {
        const auto [kind, alpha, beta] = fields[i].cast<std::tuple<int, double, double>>();
        if (kind < 0 || kind > static_cast<int>(Activation::kSoftplus))
            throw py::value_error("options: unknown activation");
        return ActivationOf<T>{static_cast<Activation>(kind), static_cast<T>(alpha),
                               static_cast<T>(beta)};
    };
    return {activation(0), activation(1), activation(2), static_cast<T>(fields[3].cast<double>()),
            fields[4].cast<bool>()};
}

// What a call is for: whether it saves, and whether its directions may run at the same time.
enum class Walk { kInference, kTraining, kBackward };

// The arguments that forward and backward share, verified; owns the schedule's arrays.
template <class T>
class Job {
  public:
    Job(const std::string& isa, const std::string& cell, const std::vector<py::object>& packs,
        const Sizes& sizes, const py::object& options, py::tuple given, Walk walk, int threads,
        bool unpacked = false)
        : table(find_isa(isa)),
          cell_number(cell_index(table, cell)),
          inputs(std::move(given)),
          options_(read_options<T>(options)) {
        if (inputs.size() != kBatchFirst + 1) throw py::value_error("inputs: expected 11 fields");
        batch_first_ = inputs[kBatchFirst].template cast<bool>();
        const py::object x = inputs[kX], ids = inputs[kTokens];
        const py::object& shaped = ids.is_none() ? x : ids;
        const bool is_array = py::isinstance<py::array>(shaped);
        const auto array = py::reinterpret_borrow<py::array>(shaped);
        if (!is_array || array.ndim() < 2)
            throw py::value_error("x: expected an array of shape (T, B, I), or tokens of (T, B)");
        if (packs.empty() || packs.size() > kMaxDirections)
            throw py::value_error("weights: expected one or two directions");
        const auto [input, hidden, output, project] = sizes;
        request = Request{.cell = table.info[cell_number],
                          .steps = array.shape(0),
                          .batch = array.shape(1),
                          .input = input,
                          .hidden = hidden,
                          .output = output,
                          .project = project,
                          .drop = !inputs[kDrop].is_none(),
                          .directions = static_cast<int>(packs.size()),
                          .threads = threads,
                          .save = walk != Walk::kInference,
                          .tokens = !ids.is_none(),
                          .item = static_cast<Index>(sizeof(T)),
                          .unpacked = unpacked};
        if (project && (request.cell.states < 2 || request.cell.norm))
            throw py::value_error("w_hr: this cell does not project");
        plan = plan_threads(
            request, [&] { return threads > 0 ? threads : default_threads(); },
            walk != Walk::kBackward);
        request.threads = plan.threads;
        team = {plan.threads, threads > 0};
        if (!make_layout(request, layout))
            throw py::value_error("sizes: T, B, I and H are too large to be addressed");
        read_input(x, ids);
        read_schedule();
    }

    void fill(Call<T>& call) const {
        call.layout = layout;
        call.schedule = schedule;
        call.split = plan.split;
        call.x = input_.data;
        call.x_step = input_.step;
        call.x_row = input_.row;
        call.tokens = tokens_;
        std::tie(call.y_step, call.y_row) = strides_of(layout.directions * layout.output);
        call.options = options_;
        call.zone_h = call.zone_c = T(0);
        if (const py::object rates = inputs[kZoneout]; !rates.is_none()) {
            const auto [h, c] = rates.cast<std::tuple<double, double>>();
            call.zone_h = static_cast<T>(h);
            call.zone_c = static_cast<T>(c);
        }
    }

    // What a direction of both walks reads.
    void fill(Direction<T>& dir, int d, const py::object& pack, Index pack_items) const {
        dir.pack = view<T>(pack, "pack", {pack_items});
        if (dir.pack == nullptr) throw py::value_error("pack: expected an array");
        fill(dir, d);
    }
    void fill(Direction<T>& dir, int d) const {
        states_of(inputs[kStates], "states", d, dir.state_in);
        states_of(inputs[kInitial], "initial", d, dir.initial);
        dir.drop =
            part(d, view<T>(inputs[kDrop], "drop", state_shape(0)), layout.batch * layout.output);
        for (auto& keep : dir.keep) keep = nullptr;
        if (const py::object keep = inputs[kKeep]; !keep.is_none())
            for (Index k = 0; k < states(); ++k)
                dir.keep[k] = part(d, each_step(item(keep, "keep", k), "keep", {state_width(k)}),
                                   layout.steps * layout.batch * state_width(k));
    }

    const CellKernels<T>& kernel() const { return kernels_of<T>(table).cells[cell_number]; }
    bool whole() const { return schedule.row == nullptr; }
    Index states() const { return request.cell.states; }
    Index state_width(Index k) const { return k == 0 ? layout.output : layout.hidden; }
    std::vector<Index> state_shape(Index k) const {
        return {layout.directions, layout.batch, state_width(k)};
    }
    // (T, B, n), or (B, T, n) where the call is batch-first; and its strides (step, row).
    std::vector<Index> shape_of(Index n) const {
        if (batch_first_) return {layout.batch, layout.steps, n};
        return {layout.steps, layout.batch, n};
    }
    std::pair<Index, Index> strides_of(Index n) const {
        if (batch_first_) return {n, layout.steps * n};
        return {layout.batch * n, n};
    }
    std::vector<Index> saved_shape() const {
        const Index block = kBlockBytes / static_cast<Index>(sizeof(T));
        return {layout.directions,
                layout.steps,
                layout.batch,
                layout.padded / block,
                layout.saved_row / layout.padded,
                block};
    }

    // Pointers of direction d in a list of state arrays (D, B, P), (D, B, H); None gives null.
    void states_of(const py::object& list, const char* name, int d,
                   const T* (&out)[kMaxStates]) const {
        for (auto& p : out) p = nullptr;
        if (list.is_none()) return;
        for (Index k = 0; k < states(); ++k)
            out[k] = part(d, view<T>(item(list, name, k), name, state_shape(k)),
                          layout.batch * state_width(k));
    }

    // An array (D, T, B, n...) of direction-major steps; None gives null.
    const T* each_step(const py::object& given, const char* name, std::vector<Index> rest) const {
        rest.insert(rest.begin(), {layout.directions, layout.steps, layout.batch});
        return view<T>(given, name, rest);
    }

    static const T* part(int d, const T* all, Index items) {
        return all == nullptr ? nullptr : all + d * items;
    }

    const Table& table;
    int cell_number;
    const py::tuple inputs;
    Request request;
    Plan plan;
    TeamSize team;
    Layout layout;
    Schedule schedule{};

  private:
    py::object item(const py::object& list, const char* name, Index k) const {
        if (!py::isinstance<py::sequence>(list) || static_cast<Index>(py::len(list)) != states())
            throw py::value_error(std::string(name) + ": expected one array per state");
        return py::reinterpret_borrow<py::sequence>(list)[static_cast<std::size_t>(k)];
    }

    void read_input(const py::object& x, const py::object& ids) {
        if (!ids.is_none()) {
            tokens_ = view<Index>(ids, "tokens", {layout.steps, layout.batch});
            const Index n = layout.steps * layout.batch;
            if (!std::all_of(tokens_, tokens_ + n,
                             [&](Index t) { return t >= 0 && t < layout.input; }))
                throw py::value_error("tokens: an index is outside [0, input_size)");
        } else {
            input_ = strided<T>(x, "x", {layout.steps, layout.batch, layout.input});
        }
    }

    void read_schedule() {
        const Index steps = layout.steps, batch = layout.batch, directions = layout.directions;
        const Index* length = view<Index>(inputs[kLengths], "lengths", {batch});
        const Index* times = view<Index>(inputs[kTimes], "times", {directions, batch, steps});
        const auto* cut = view<std::uint8_t>(inputs[kCut], "cut", {directions, steps + 1, batch});
        for (Index d = 0; d < directions; ++d) {
            schedule.times[d] = times == nullptr ? nullptr : times + d * batch * steps;
            schedule.cut[d] = cut == nullptr ? nullptr : cut + d * (steps + 1) * batch;
        }
        if (times != nullptr && !std::all_of(times, times + directions * batch * steps,
                                             [&](Index t) { return t >= 0 && t < steps; }))
            throw py::value_error("times: a step is outside [0, T)");
        if (length == nullptr) {
            if (times != nullptr) throw py::value_error("times: expected lengths beside them");
            return;
        }
        if (!std::all_of(length, length + batch, [&](Index n) { return n >= 0 && n <= steps; }))
            throw py::value_error("lengths: a length is outside [0, T]");
        ranks_.order(length, batch, steps, schedule);
    }

    Strided<T> input_{};
    const Index* tokens_ = nullptr;
    bool batch_first_ = false;
    Ranks ranks_;
    const CellOptions<T> options_;
};

}  // namespace fusedrnn
