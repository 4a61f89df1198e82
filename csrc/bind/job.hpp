// The arguments that forward and backward calls share: verified, and put into the structs of
// kernels.hpp.
#pragma once

#include <algorithm>
#include <tuple>

#include "weights.hpp"

namespace fusedrnn {

// Indices into the tuple `Inputs` of python/fusedrnn/_backends/types.py.
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
    kFields
};

// Reads (f, g, h, clip, coupled); an activation is (kind, alpha, beta). `given` is None if the
// activations of the cell are fixed.
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

// The kind of a call: it decides whether the call saves and whether its directions may run at the
// same time.
enum class Walk { kInference, kTraining, kBackward };

// How many threads the user asked for. `exactly`, if positive, is obeyed; `at_most`, if positive,
// limits the default number, which is still reduced if other work keeps the cores busy.
struct Asked {
    int exactly, at_most;
};

// The threads that a call may have.
inline int most_threads(Asked asked) {
    if (asked.exactly > 0) return asked.exactly;
    const int most = default_threads();
    return asked.at_most > 0 ? std::min(asked.at_most, most) : most;
}

using Packs = std::vector<PackedWeights*>;

// The arguments that forward and backward calls share, verified. Owns the arrays of the schedule,
// and holds a Reading of the weights of each direction. Made and destroyed under the interpreter's
// lock.
template <class T>
class Job {
  public:
    // `group`: rows that share a weight gradient; 0: all of them share one.
    Job(const Packs& packs, py::tuple given, Walk walk, Asked asked, Index group = 0)
        : packs(packs),
          first(first_of(packs)),
          inputs(std::move(given)),
          options_(read_options<T>(first.options)) {
        for (PackedWeights* pack : packs) {
            if (pack == nullptr || !pack->same_layer(first))
                throw py::value_error(
                    "packed: both directions must be of one cell, size, dtype "
                    "and instruction set");
            reading_.emplace_back(*pack);
        }
        if (inputs.size() != kFields)
            throw py::value_error("inputs: expected " + std::to_string(kFields) + " fields");
        const py::object x = inputs[kX], ids = inputs[kTokens];
        const py::object& shaped = ids.is_none() ? x : ids;
        const bool is_array = py::isinstance<py::array>(shaped);
        const auto array = py::reinterpret_borrow<py::array>(shaped);
        if (!is_array || array.ndim() < 2)
            throw py::value_error("x: expected an array of shape (T, B, I), or tokens of (T, B)");
        request = Request{.cell = first.info,
                          .steps = array.shape(0),
                          .batch = array.shape(1),
                          .input = first.input,
                          .hidden = first.hidden,
                          .output = first.output,
                          .project = first.project,
                          .drop = !inputs[kDrop].is_none(),
                          .directions = static_cast<int>(packs.size()),
                          .threads = 1,
                          .save = walk != Walk::kInference,
                          .tokens = !ids.is_none(),
                          .item = static_cast<Index>(sizeof(T)),
                          .weight_item = static_cast<Index>(sizeof(T)),
                          .unpacked = walk != Walk::kBackward,
                          .group = group};
        if (group < 0 || (group > 0 && request.batch % group != 0))
            throw py::value_error("group: expected a divisor of the batch");
        for (PackedWeights* pack : packs)
            request.unpacked = pack->unpacked(request.steps, request.batch) && request.unpacked;
        if (request.unpacked)
            for (PackedWeights* pack : packs) array_reading_.emplace_back(*pack);
        const bool obey = asked.exactly > 0;
        plan = plan_threads(request, [&] { return most_threads(asked); }, walk == Walk::kBackward);
        request.threads = plan.threads;
        team = {plan.threads, obey};
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
        call.options = options_;
        call.zone_h = call.zone_c = T(0);
        if (const py::object rates = inputs[kZoneout]; !rates.is_none()) {
            const auto [h, c] = rates.cast<std::tuple<double, double>>();
            call.zone_h = static_cast<T>(h);
            call.zone_c = static_cast<T>(c);
        }
    }

    // Fills in what kernels read of direction d.
    void fill(Direction<T>& dir, int d, Form form) {
        if (!request.unpacked) {
            panels_.push_back(packs[static_cast<std::size_t>(d)]->panels(form));
            dir.pack = panels_.back()->data();
        }
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

    const CellKernels<T>& kernel() const {
        return kernels_of<T>(first.table).cells[first.cell_number];
    }
    bool whole() const { return schedule.row == nullptr; }
    Index states() const { return request.cell.states; }
    Index state_width(Index k) const { return k == 0 ? layout.output : layout.hidden; }
    std::vector<Index> state_shape(Index k) const {
        return {layout.directions, layout.batch, state_width(k)};
    }
    std::vector<Index> steps_of(Index n) const { return {layout.steps, layout.batch, n}; }
    std::vector<Index> saved_shape() const {
        const Index block = kBlockBytes / static_cast<Index>(sizeof(T));
        return {layout.directions,
                layout.steps,
                layout.batch,
                layout.padded / block,
                layout.saved_row / layout.padded,
                block};
    }

    // Pointers to direction d in a list of state arrays (D, B, P), (D, B, H); None gives null.
    void states_of(const py::object& list, const char* name, int d,
                   const T* (&out)[kMaxStates]) const {
        for (auto& p : out) p = nullptr;
        if (list.is_none()) return;
        for (Index k = 0; k < states(); ++k)
            out[k] = part(d, view<T>(item(list, name, k), name, state_shape(k)),
                          layout.batch * state_width(k));
    }

    // Ends the reading of the weights. Pointers to panels are invalid afterwards.
    void release() {
        reading_.clear();
        array_reading_.clear();
        panels_.clear();
    }

    // The data of an array (D, T, B, rest...); None gives null.
    const T* each_step(const py::object& given, const char* name, std::vector<Index> rest) const {
        rest.insert(rest.begin(), {layout.directions, layout.steps, layout.batch});
        return view<T>(given, name, rest);
    }

    static const T* part(int d, const T* all, Index items) {
        return all == nullptr ? nullptr : all + d * items;
    }

    const Packs packs;
    const PackedWeights& first;
    const py::tuple inputs;
    Request request;
    Plan plan;
    TeamSize team;
    Layout layout;
    Schedule schedule{};

    // Calls body(array) for every array of the inputs and of the weights.
    template <class Body>
    void each_input(Body body) const {
        for (const PackedWeights* pack : packs) pack->each_array(body);
        for (const py::handle& field : inputs) {
            if (py::isinstance<py::array>(field))
                body(py::reinterpret_borrow<py::object>(field));
            else if (py::isinstance<py::sequence>(field))
                for (const py::handle& part : field)
                    if (py::isinstance<py::array>(part))
                        body(py::reinterpret_borrow<py::object>(part));
        }
    }

    py::object item(const py::object& list, const char* name, Index k) const {
        if (!py::isinstance<py::sequence>(list) || static_cast<Index>(py::len(list)) != states())
            throw py::value_error(std::string(name) + ": expected one array per state");
        return py::reinterpret_borrow<py::sequence>(list)[static_cast<std::size_t>(k)];
    }

  private:
    static const PackedWeights& first_of(const Packs& packs) {
        if (packs.empty() || packs.size() > kMaxDirections || packs[0] == nullptr)
            throw py::value_error("packed: expected one or two directions");
        return *packs[0];
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
        ranks_.order(length, batch, steps, layout.group, schedule);
    }

    Strided<T> input_{};
    const Index* tokens_ = nullptr;
    Ranks ranks_;
    std::vector<PackedWeights::Reading> reading_;
    std::vector<PackedWeights::ArrayReading> array_reading_;
    std::vector<PackedWeights::Memory> panels_;
    const CellOptions<T> options_;
};

}  // namespace fusedrnn
