// The Python module `_core`. The work of a call is in call.hpp, that of a call with several sets of
// weights in ensemble.hpp, that of a function of plain arrays in plain.hpp, that of a stream's
// steps in step.hpp, and that of XLA's calls in xla.hpp.
#include <pybind11/stl.h>

#include <cstdlib>

#include "call.hpp"
#include "ensemble.hpp"
#include "outer/caches.hpp"
#include "plain.hpp"
#include "step.hpp"
#include "xla.hpp"

namespace fusedrnn {
namespace {

// Calls body.operator()<T>() for the dtype of `array`.
template <class Body>
auto by_dtype_of(const py::handle& array, Body body) {
    if (py::isinstance<py::array_t<float, 0>>(array)) return body.template operator()<float>();
    if (py::isinstance<py::array_t<double, 0>>(array)) return body.template operator()<double>();
    throw py::value_error("weights: expected arrays of float32 or float64");
}

// Calls body.operator()<T>() for the dtype of the packed weights.
template <class Body>
auto by_dtype(const Packs& packs, Body body) {
    if (packs.empty() || packs[0] == nullptr)
        throw py::value_error("packed: expected one or two directions");
    if (packs[0]->wide) return body.template operator()<double>();
    return body.template operator()<float>();
}

// y, `final`: None (new arrays) or the arrays to write; `saved`: None, True (a new array) or the
// array to save in.
py::tuple forward(const Packs& packs, const py::tuple& inputs, const py::object& y,
                  const py::object& final, const py::object& saved, int threads, int at_most) {
    return by_dtype(packs, [&]<class T>() {
        const Walk walk = saved.is_none() ? Walk::kInference : Walk::kTraining;
        Job<T> job(packs, inputs, walk, {threads, at_most});
        return run_forward(job, {y, final, saved});
    });
}

py::tuple backward(const Packs& packs, const py::tuple& inputs, const py::object& y,
                   const py::object& saved, const py::object& dy, const py::object& dstates,
                   const py::object& dcells, const py::object& dgates, const py::object& dx,
                   const py::object& dfirst, bool dinitial, const py::object& weights, bool add,
                   Index group, int threads, int at_most) {
    return by_dtype(packs, [&]<class T>() {
        Job<T> job(packs, inputs, Walk::kBackward, {threads, at_most}, group);
        return run_backward<T>(job, {y, saved, dy, dstates, dcells, dgates},
                               {dx, dfirst, weights, dinitial, add});
    });
}

// members: for each (packed, inputs, y, final, saved), as `forward` takes them.
py::list forward_ensemble(const py::list& given, bool save, int threads, int at_most) {
    const std::vector<Member> members = members_of(given);
    return by_dtype(members[0].packs, [&]<class T>() {
        return run_forward_ensemble<T>(members, save ? Walk::kTraining : Walk::kInference,
                                       {threads, at_most});
    });
}

// members: for each (packed, inputs, y, saved, dy, dstates, dcells, dgates, dx, dfirst, weights),
// as `backward` takes them.
py::list backward_ensemble(const py::list& given, bool dinitial, bool add, Index group, int threads,
                           int at_most) {
    const std::vector<Member> members = members_of(given);
    return by_dtype(members[0].packs, [&]<class T>() {
        return run_backward_ensemble<T>(members, dinitial, add, group, {threads, at_most});
    });
}

// `weights`: w_ih, w_hh, b_ih, b_hh, p, w_hr; `states`: h, c. None if an argument is not plain.
py::object forward_plain(const std::string& isa, const std::string& cell, const py::object& x,
                         const py::tuple& weights, const py::tuple& states, int threads,
                         int at_most) {
    const Asked asked{threads, at_most};
    if (py::isinstance<py::array_t<float, 0>>(x))
        return run_plain<float>(isa, cell, x, weights, states, asked);
    if (py::isinstance<py::array_t<double, 0>>(x))
        return run_plain<double>(isa, cell, x, weights, states, asked);
    return py::none();
}

std::unique_ptr<Stepper> stepper(PackedWeights& weights, const py::tuple& inputs, int threads,
                                 int at_most) {
    const Asked asked{threads, at_most};
    if (weights.wide) return std::make_unique<StepperOf<double>>(weights, inputs, asked);
    return std::make_unique<StepperOf<float>>(weights, inputs, asked);
}

// Whether arrays have the shapes, dtypes and bytes of others, pair by pair; stops at the first
// difference. None if one of them is no plain contiguous array.
py::object same_arrays(const py::tuple& some, const py::tuple& others) {
    constexpr std::size_t kShort = 4096;  // less bytes are compared before a lock could be dropped
    if (some.size() != others.size()) return py::bool_(false);
    bool same = true;
    for (std::size_t i = 0; same && i < some.size(); ++i) {
        const py::handle left = some[i], right = others[i];
        for (const py::handle one : {left, right})
            if (Py_TYPE(one.ptr()) != py::detail::npy_api::get().PyArray_Type_) return py::none();
        const auto a = py::reinterpret_borrow<py::array>(left);
        const auto b = py::reinterpret_borrow<py::array>(right);
        if ((a.flags() & b.flags() & kContiguous) == 0) return py::none();
        if (a.ndim() != b.ndim() || !std::equal(a.shape(), a.shape() + a.ndim(), b.shape()) ||
            !py::detail::npy_api::get().PyArray_EquivTypes_(a.dtype().ptr(), b.dtype().ptr()))
            return py::bool_(false);
        const auto bytes = static_cast<std::size_t>(a.nbytes());
        const void *from = a.data(), *to = b.data();
        if (bytes < kShort) {
            same = std::memcmp(from, to, bytes) == 0;
        } else {
            const py::gil_scoped_release free;
            same = std::memcmp(from, to, bytes) == 0;
        }
    }
    return py::bool_(same);
}

// Applies an element-wise function of inner/math.hpp, with flush-to-zero as in a kernel.
template <class Choose>
py::array map_function(const std::string& isa, const py::object& x, Choose choose) {
    return by_dtype_of(x, [&]<class T>() -> py::array {
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

// Seconds that a probe takes, the least of several runs.
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

// Peak of one thread in GFLOP/s, with operands in registers.
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

// Makes glibc keep up to 64 MB of freed memory for the next allocations. It returns the top of its
// heap to the system as soon as twice its largest freed block is free there. The arrays of a
// training step are about as large as each other and freed together, so every step would get new
// pages from the system, and a new page costs as much as hundreds of operations for each of its
// numbers. glibc takes the largest block that it has seen as a measure, up to 32 MB; this block is
// never touched. MALLOC_TRIM_THRESHOLD_ and MALLOC_MMAP_THRESHOLD_ in the environment still rule.
void keep_freed_memory() {
#ifdef __GLIBC__
    constexpr std::size_t kLargest = 32 * 1024 * 1024 - 64 * 1024;
    void* block = std::malloc(kLargest);
    asm volatile("" : "+r"(block));  // a compiler may leave out an unused block
    std::free(block);
#endif
}

}  // namespace

PYBIND11_MODULE(_core, m) {
    keep_freed_memory();
    m.doc() = "Kernels of fusedrnn. Private: use the functions of the package.";
    m.def("version", [] { return FUSEDRNN_VERSION; });
    m.def("build", build);
    m.def("cells", cells);
    m.def("isas", list_isas);
    m.def("default_isa", [] { return std::string(default_isa().isa); });
    m.def("default_threads", default_threads);
    m.def("caches", [] { return std::pair{caches().l2, caches().l3}; });
    m.def("use_caches", [](Index l2, Index l3) { use_caches({l2, l3}); });
    py::class_<PackedWeights>(m, "PackedWeights")
        .def(py::init<const std::string&, const std::string&, py::tuple, py::object>())
        .def_property_readonly("isa", &PackedWeights::isa)
        .def_property_readonly("nbytes", &PackedWeights::nbytes)
        .def("close", &PackedWeights::close)
        .def("open", &PackedWeights::open)
        .def("heir", &PackedWeights::heir)
        .def("panels", &PackedWeights::copied);
    m.def("unpacked_pays", unpacked_pays);
    m.def("same_arrays", same_arrays);
    m.def("forward", forward);
    m.def("forward_plain", forward_plain);
    m.def("backward", backward);
    m.def("forward_ensemble", forward_ensemble);
    m.def("backward_ensemble", backward_ensemble);
    m.def("stepper", stepper, py::keep_alive<0, 1>());
    py::class_<Stepper>(m, "Stepper")
        .def("step", &Stepper::step, py::arg("x").noconvert(), py::arg("y").noconvert(),
             py::arg("real") = py::none(), py::arg("cut") = py::none())
        .def("undo", &Stepper::undo)
        .def("states", &Stepper::states)
        .def("load", &Stepper::load);
    m.def("xla_target", xla::target);
    m.def("xla_close", xla::close);
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
