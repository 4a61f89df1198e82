// The C functions that XLA calls: the buffers of a call, handed to Python as NumPy arrays.
//
// Nothing is copied. A function of Python cannot take this place, because it could not return to
// XLA in good order if a signal interrupts it: the exception would have nowhere to go.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

namespace fusedrnn::xla {

namespace py = pybind11;

// The structs of xla/ffi/api/c_api.h of OpenXLA (Apache-2.0), up to the fields that are read here.
// Within a major version XLA adds fields at the ends only.
struct Extension {
    std::size_t struct_size;
    std::int32_t type;
    Extension* next;
};
struct Version {
    std::size_t struct_size;
    Extension* extensions;
    std::int32_t major, minor;
};
struct Metadata {
    std::size_t struct_size;
    Version version;
    std::uint32_t traits;
};
struct MetadataExtension {
    Extension base;
    Metadata* metadata;
};
struct ErrorArguments {
    std::size_t struct_size;
    Extension* extensions;
    const char* message;
    std::int32_t code;
};
struct Error;
struct Api {
    std::size_t struct_size;
    Extension* extensions;
    Version version;
    const void* internal;
    Error* (*create_error)(ErrorArguments*);
};
struct Buffer {
    std::size_t struct_size;
    Extension* extensions;
    std::int32_t dtype;
    void* data;
    std::int64_t rank;
    const std::int64_t* dims;
};
struct Buffers {
    std::size_t struct_size;
    Extension* extensions;
    std::int64_t count;
    const std::int32_t* types;
    Buffer* const* each;
};
struct Text {
    const char* data;
    std::size_t size;
};
struct Attributes {
    std::size_t struct_size;
    Extension* extensions;
    std::int64_t count;
    const std::int32_t* types;
    Text* const* names;
    void* const* values;
};
struct Frame {
    std::size_t struct_size;
    Extension* extensions;
    const Api* api;
    void* context;
    std::int32_t stage;
    Buffers operands, results;
    Attributes attributes;
};
static_assert(sizeof(Frame) == 168 && offsetof(Frame, results) == 80 &&
              offsetof(Api, create_error) == 48 && sizeof(Buffer) == 48);

inline constexpr std::int32_t kMetadata = 1;   // XLA_FFI_Extension_Metadata
inline constexpr std::int32_t kExecute = 3;    // XLA_FFI_ExecutionStage_EXECUTE
inline constexpr std::int32_t kInternal = 13;  // XLA_FFI_Error_Code_INTERNAL
inline constexpr int kWriteable = py::detail::npy_api::NPY_ARRAY_WRITEABLE_;

// The function of Python behind each target, set when it is registered and never freed: XLA may
// call until the process ends.
struct Target {
    PyObject* function = nullptr;
    std::int32_t major = 0, minor = 0;  // the version of XLA's interface
};
inline constexpr int kTargets = 2;
inline std::array<Target, kTargets> targets;

// The numbers of XLA_FFI_DataType that the operations use.
inline py::dtype dtype_of(std::int32_t code) {
    switch (code) {
        case 1:
            return py::dtype::of<bool>();
        case 2:
            return py::dtype::of<std::int8_t>();
        case 3:
            return py::dtype::of<std::int16_t>();
        case 4:
            return py::dtype::of<std::int32_t>();
        case 5:
            return py::dtype::of<std::int64_t>();
        case 6:
            return py::dtype::of<std::uint8_t>();
        case 7:
            return py::dtype::of<std::uint16_t>();
        case 8:
            return py::dtype::of<std::uint32_t>();
        case 9:
            return py::dtype::of<std::uint64_t>();
        case 11:
            return py::dtype::of<float>();
        case 12:
            return py::dtype::of<double>();
        default:
            throw py::type_error("XLA gave an array of data type " + std::to_string(code));
    }
}

// Arrays on XLA's memory; they must not be used after the call.
inline py::list arrays(const Buffers& buffers, bool writable) {
    py::list made(static_cast<std::size_t>(buffers.count));
    for (std::int64_t k = 0; k < buffers.count; ++k) {
        const Buffer& b = *buffers.each[k];
        const std::vector<py::ssize_t> shape(b.dims, b.dims + b.rank);
        // With a base NumPy takes the memory as it is; without one it would copy.
        py::array a(dtype_of(b.dtype), shape, b.data, py::none());
        if (!writable) py::detail::array_proxy(a.ptr())->flags &= ~kWriteable;
        made[static_cast<std::size_t>(k)] = std::move(a);
    }
    return made;
}

inline Error* error(const Frame& frame, std::int32_t code, const std::string& message) {
    ErrorArguments given{sizeof(ErrorArguments), nullptr, message.c_str(), code};
    return frame.api->create_error(&given);
}

// Whether XLA only asks for which version of its interface the function was written.
inline bool asked(const Frame& frame, const Target& target) {
    bool found = false;
    for (Extension* one = frame.extensions; one != nullptr; one = one->next) {
        if (one->type != kMetadata) continue;
        Metadata& metadata = *reinterpret_cast<MetadataExtension*>(one)->metadata;
        metadata.version.major = target.major;
        metadata.version.minor = target.minor;
        metadata.traits = 0;
        found = true;
    }
    return found;
}

// After an interrupt: nothing that follows in XLA's program may read memory that nobody wrote.
inline void clear(const Buffers& results) {
    for (std::int64_t k = 0; k < results.count; ++k) {
        const Buffer& b = *results.each[k];
        std::size_t bytes = static_cast<std::size_t>(dtype_of(b.dtype).itemsize());
        for (std::int64_t i = 0; i < b.rank; ++i) bytes *= static_cast<std::size_t>(b.dims[i]);
        if (bytes != 0) std::memset(b.data, 0, bytes);
    }
}

// Calls function(text, operands, results), which returns None, or (code, message) of an error.
inline Error* call(const Frame& frame, const Target& target) {
    try {
        const auto& text = *static_cast<const Text*>(frame.attributes.values[0]);
        const py::object said =
            py::handle(target.function)(py::bytes(text.data, text.size),
                                        arrays(frame.operands, false), arrays(frame.results, true));
        if (said.is_none()) return nullptr;
        const auto [code, message] = said.cast<std::pair<std::int32_t, std::string>>();
        return error(frame, code, message);
    } catch (py::error_already_set& raised) {
        // The function catches every Exception; the others come from handlers of signals, in the
        // main thread. An error of XLA would hide that, so the exception is raised where XLA
        // returns to Python.
        if (raised.matches(PyExc_Exception)) return error(frame, kInternal, raised.what());
        clear(frame.results);
        PyThreadState_SetAsyncExc(PyThread_get_thread_ident(), raised.type().ptr());
        return nullptr;
    }
}

// Calls that are on their way, and whether there may be more. A thread of XLA that asks for Python
// when the interpreter has ended is ended by it, and with it the process, by an abort.
inline std::atomic<int> inside{0};
inline std::atomic<bool> closed{false};

struct Inside {
    Inside() { ++inside; }
    ~Inside() { --inside; }
    Inside(const Inside&) = delete;
    Inside& operator=(const Inside&) = delete;
};

// Refuses further calls and waits for those on their way; for atexit. A forked child has none.
inline void close(int process) {
    if (process != getpid()) return;
    const py::gil_scoped_release free;
    closed = true;
    while (inside != 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
}

// Keeps what Python knows of a thread until the thread ends. Python would make it anew in each call
// of a thread that it did not start, and that takes as long as the call. XLA has few threads.
inline void stay_known() {
    thread_local bool known = false;
    if (known) return;
    known = true;
    if (PyGILState_GetThisThreadState() != nullptr) return;
    PyGILState_Ensure();
    PyEval_SaveThread();
}

template <int K>
Error* handle(Frame* frame) {
    const Target& target = targets[K];
    if (asked(*frame, target) || frame->stage != kExecute) return nullptr;
    const Inside here;
    if (closed) return error(*frame, kInternal, "fusedrnn: Python is ending");
    try {
        stay_known();
        const py::gil_scoped_acquire python;
        return call(*frame, target);
    } catch (const std::exception& failed) {
        return error(*frame, kInternal, failed.what());
    }
}

// Returns the C function of target k as a capsule, for jax.ffi.register_ffi_target.
inline py::capsule target(int k, const py::function& function, int major, int minor) {
    if (k < 0 || k >= kTargets) throw py::value_error("k: no such target");
    Py_XDECREF(targets[static_cast<std::size_t>(k)].function);
    targets[static_cast<std::size_t>(k)] = {function.inc_ref().ptr(), major, minor};
    Error* (*const functions[])(Frame*) = {handle<0>, handle<1>};
    return py::capsule(reinterpret_cast<const void*>(functions[k]),
                       static_cast<const char*>(nullptr));
}

}  // namespace fusedrnn::xla
