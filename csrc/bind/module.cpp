// The module `_core`: a table of contents. The work of a call is in call.hpp, of a
// stream's steps in step.hpp.
#include <pybind11/stl.h>

#include "call.hpp"
#include "step.hpp"

namespace fusedrnn {
namespace {

// Calls body.operator()<T>() for the dtype of `array`.
template <class Body>
auto by_dtype(const py::handle& array, Body body) {
    if (py::isinstance<py::array_t<float, 0>>(array)) return body.template operator()<float>();
    if (py::isinstance<py::array_t<double, 0>>(array)) return body.template operator()<double>();
    throw py::value_error("weights: expected arrays of float32 or float64");
}

py::array pack(const std::string& isa, const std::string& cell, const py::object& w_ih,
               const py::object& w_hh, const py::object& b_ih, const py::object& b_hh,
               const py::object& p, const py::object& w_hr, bool backward) {
    return by_dtype(w_ih, [&]<class T>() -> py::array {
        const Table& table = find_isa(isa);
        const CellInfo& info = table.info[cell_index(table, cell)];
        const auto w = py::reinterpret_borrow<py::array>(w_ih);
        const Index rows = w.ndim() == 2 ? w.shape(0) : 0, hidden = rows / info.x_gates;
        const bool project = !w_hr.is_none(), recurrent = info.h_first < info.gates;
        const Index output = project ? static_cast<Index>(py::len(w_hr)) : hidden;
        Pack<T> job{};
        job.cell = info;
        const Request request{.cell = info,
                              .steps = 0,
                              .batch = 0,
                              .input = w.ndim() == 2 ? w.shape(1) : 0,
                              .hidden = hidden,
                              .output = output,
                              .project = project,
                              .drop = false,
                              .directions = 1,
                              .threads = 1,
                              .save = false,
                              .tokens = false,
                              .item = static_cast<Index>(sizeof(T))};
        if (rows % info.x_gates != 0 || !make_layout(request, job.layout))
            throw py::value_error("w_ih: its shape is not that of a layer of this cell");
        job.w_ih = view<T>(w_ih, "w_ih", {rows, job.layout.input});
        job.w_hh = recurrent ? view<T>(w_hh, "w_hh", {rows, output}) : nullptr;
        job.b_ih = view<T>(b_ih, "b_ih", {rows});
        job.b_hh = view<T>(b_hh, "b_hh", {rows});
        job.p = view<T>(p, "p", {info.vectors, hidden});
        job.w_hr = view<T>(w_hr, "w_hr", {output, hidden});
        if ((recurrent && job.w_hh == nullptr) || (info.vectors > 0 && job.p == nullptr))
            throw py::value_error("weights: this cell needs w_hh and, with peepholes, p");
        const Index items = backward ? job.layout.back_total : job.layout.pack_total;
        py::array_t<T> out = aligned<T>({items});
        job.out = out.mutable_data();
        py::gil_scoped_release free;
        (backward ? kernels_of<T>(table).pack_backward : kernels_of<T>(table).pack)(&job, 0, 1);
        return out;
    });
}

py::tuple forward(const std::string& isa, const std::string& cell,
                  const std::vector<py::object>& packs, const Sizes& sizes,
                  const py::object& options, const py::tuple& inputs, bool save, int num_threads) {
    return by_dtype(packs.empty() ? py::none() : packs[0], [&]<class T>() {
        const Job<T> job(isa, cell, packs, sizes, options, inputs,
                         save ? Walk::kTraining : Walk::kInference, num_threads);
        return run_forward(job, packs);
    });
}

// As forward, with the weights of each direction, (w_ih, w_hh, b_ih, b_hh, p, w_hr), in place of a
// pack.
py::tuple forward_unpacked(const std::string& isa, const std::string& cell,
                           const std::vector<py::object>& weights, const Sizes& sizes,
                           const py::object& options, const py::tuple& inputs, bool save,
                           int num_threads) {
    using Arrays = std::array<py::object, 6>;
    std::vector<Arrays> arrays;
    for (const py::object& of : weights) arrays.push_back(of.cast<Arrays>());
    return by_dtype(arrays.empty() ? py::none() : arrays[0][0], [&]<class T>() {
        const Job<T> job(isa, cell, weights, sizes, options, inputs,
                         save ? Walk::kTraining : Walk::kInference, num_threads, true);
        const CellInfo& info = job.request.cell;
        const Layout& at = job.layout;
        const Index rows = info.x_gates * at.hidden;
        const bool recurrent = info.h_first < info.gates;
        std::vector<Pack<T>> all;
        for (const auto& [w_ih, w_hh, b_ih, b_hh, p, w_hr] : arrays) {
            Pack<T> one{};
            one.cell = info;
            one.layout = at;
            one.w_ih = view<T>(w_ih, "w_ih", {rows, at.input});
            one.w_hh = recurrent ? view<T>(w_hh, "w_hh", {rows, at.output}) : nullptr;
            one.b_ih = view<T>(b_ih, "b_ih", {rows});
            one.b_hh = view<T>(b_hh, "b_hh", {rows});
            one.p = view<T>(p, "p", {info.vectors, at.hidden});
            one.w_hr = at.project ? view<T>(w_hr, "w_hr", {at.output, at.hidden}) : nullptr;
            if (one.w_ih == nullptr || (recurrent && one.w_hh == nullptr) ||
                (info.vectors > 0 && one.p == nullptr) || (at.project && one.w_hr == nullptr))
                throw py::value_error("weights: this call needs more of them");
            all.push_back(one);
        }
        return run_forward(job, weights, all);
    });
}

py::tuple backward(const std::string& isa, const std::string& cell,
                   const std::vector<py::object>& packs, const Sizes& sizes,
                   const py::object& options, const py::tuple& inputs, const py::object& y,
                   const py::object& saved, const py::object& dy, const py::object& dstates,
                   const py::object& dcells, const py::object& dgates, bool want_dx,
                   int num_threads) {
    return by_dtype(packs.empty() ? py::none() : packs[0], [&]<class T>() {
        const Job<T> job(isa, cell, packs, sizes, options, inputs, Walk::kBackward, num_threads);
        return run_backward<T>(job, packs, {y, saved, dy, dstates, dcells, dgates, want_dx});
    });
}

std::unique_ptr<Stepper> stepper(const std::string& isa, const std::string& cell,
                                 std::vector<py::object> packs, const Sizes& sizes,
                                 const py::object& options, const py::tuple& inputs,
                                 int num_threads) {
    return by_dtype(packs.empty() ? py::none() : packs[0],
                    [&]<class T>() -> std::unique_ptr<Stepper> {
                        return std::make_unique<StepperOf<T>>(isa, cell, std::move(packs), sizes,
                                                              options, inputs, num_threads);
                    });
}

// An element-wise function of math.hpp, under flush-to-zero as in a kernel.
template <class Choose>
py::array map_function(const std::string& isa, const py::object& x, Choose choose) {
    return by_dtype(x, [&]<class T>() -> py::array {
        const Index n = py::reinterpret_borrow<py::array>(x).size();
        py::array_t<T> out = empty<T>({n});
        struct Context {
            void (*fn)(const T*, T*, Index);
            const T* from;
            T* to;
            Index n;
        } context{choose(kernels_of<T>(find_isa(isa)).math), view<T>(x, "x", {n}),
                  out.mutable_data(), n};
        Barrier none{};
        run(
            [](void* c, int, int) {
                const auto& job = *static_cast<Context*>(c);
                job.fn(job.from, job.to, job.n);
            },
            &context, {1, true}, none);
        return out;
    });
}

// Seconds of a probe, the best of several runs.
template <class Probe>
double best_seconds(Probe probe) {
    double best = 1e300;
    for (int i = 0; i < 5; ++i) {
        const auto from = std::chrono::steady_clock::now();
        volatile auto sink = probe();
        static_cast<void>(sink);
        const std::chrono::duration<double> took = std::chrono::steady_clock::now() - from;
        best = std::min(best, took.count());
    }
    return best;
}

// Peak of one thread in GFLOP/s, from registers.
double peak_gflops(const std::string& isa, bool wide) {
    auto measure = [](const auto& probes) {
        constexpr Index kRounds = 2'000'000;
        const double seconds = best_seconds([&] { return probes.fma(kRounds); });
        return static_cast<double>(probes.fma_flops * kRounds) / seconds * 1e-9;
    };
    const Table& table = find_isa(isa);
    py::gil_scoped_release free;
    return wide ? measure(table.f64.probes) : measure(table.f32.probes);
}

// Read bandwidth of one thread over a working set of `bytes`, in GB/s.
double read_bandwidth(const std::string& isa, Index bytes) {
    const Index items = std::max<Index>(1024, bytes / 4 / 1024 * 1024);
    const auto read = find_isa(isa).f32.probes.read;
    const Scratch<float> data(items);
    std::fill_n(data.data(), items, 1.0F);
    const Index times = std::max<Index>(1, 50'000'000 / items);
    py::gil_scoped_release free;
    const double seconds = best_seconds([&] { return read(data.data(), items, times); });
    return static_cast<double>(items * 4 * times) / seconds * 1e-9;
}

py::dict cells() {
    py::dict out;
    const Table& table = *isas().front().table;
    for (int i = 0; i < table.cells; ++i) {
        const CellInfo& c = table.info[i];
        py::dict cell;
        cell["gates"] = c.gates;
        cell["x_gates"] = c.x_gates;
        cell["h_first"] = c.h_first;
        cell["late"] = c.late;
        cell["states"] = c.states;
        cell["vectors"] = c.vectors;
        cell["norm"] = c.norm;
        out[c.name] = cell;
    }
    return out;
}

py::list list_isas() {
    py::list out;
    for (const Isa& isa : isas())
        out.append(py::make_tuple(isa.table->isa, isa.supported, isa.table->vector_bytes));
    return out;
}

py::dict build() {
    py::dict out;
    out["compiler"] = FUSEDRNN_COMPILER;
    out["compiler_version"] = FUSEDRNN_COMPILER_VERSION;
    out["flags"] = FUSEDRNN_FLAGS;
    out["openmp"] = has_openmp();
    return out;
}

}  // namespace

PYBIND11_MODULE(_core, m) {
    m.doc() = "Kernels of fusedrnn. Private: use the functions of the package.";
    m.def("version", [] { return FUSEDRNN_VERSION; });
    m.def("build", build);
    m.def("cells", cells);
    m.def("isas", list_isas);
    m.def("default_isa", [] { return std::string(default_isa().isa); });
    m.def("default_threads", default_threads);
    m.def("pack", pack);
    m.def("forward", forward);
    m.def("forward_unpacked", forward_unpacked);
    m.def("unpacked_pays", unpacked_pays);
    m.def("backward", backward);
    m.def("stepper", stepper);
    py::class_<Stepper>(m, "Stepper")
        .def("step", &Stepper::step, py::arg("x").noconvert(), py::arg("y").noconvert())
        .def("undo", &Stepper::undo)
        .def("states", &Stepper::states)
        .def("load", &Stepper::load);
    m.def("peak_gflops", peak_gflops);
    m.def("read_bandwidth", read_bandwidth);
    m.def("exp", [](const std::string& isa, const py::object& x) {
        return map_function(isa, x, [](const auto& f) { return f.exp; });
    });
    m.def("sigmoid", [](const std::string& isa, const py::object& x) {
        return map_function(isa, x, [](const auto& f) { return f.sigmoid; });
    });
    m.def("tanh", [](const std::string& isa, const py::object& x) {
        return map_function(isa, x, [](const auto& f) { return f.tanh; });
    });
}

}  // namespace fusedrnn
