// NumPy arrays: pointers to their data, after verification, and new arrays.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstring>
#include <initializer_list>
#include <string>
#include <vector>

#include "kernels.hpp"

namespace fusedrnn {

namespace py = pybind11;

inline std::string text_of(const std::vector<Index>& shape) {
    std::string out = "(";
    for (const Index n : shape) out += (out.size() > 1 ? ", " : "") + std::to_string(n);
    return out + (shape.size() == 1 ? ",)" : ")");
}

inline constexpr int kContiguous = py::array::c_style;
inline constexpr int kAligned = py::detail::npy_api::NPY_ARRAY_ALIGNED_;

// The data of an array, after verifying that it is C-contiguous, aligned for T, and of exactly this
// dtype and shape; None gives null. Python has checked all of this already; it is checked again
// because a wrong array could corrupt memory.
template <class T>
const T* view(const py::handle& given, const char* name, const std::vector<Index>& shape) {
    if (given.is_none()) return nullptr;
    if (!py::isinstance<py::array>(given))
        throw py::value_error(std::string(name) + ": expected a NumPy array");
    const auto array = py::reinterpret_borrow<py::array>(given);
    std::vector<Index> got;
    for (py::ssize_t i = 0; i < array.ndim(); ++i) got.push_back(array.shape(i));
    if (got != shape)
        throw py::value_error(std::string(name) + ": got shape " + text_of(got) + ", expected " +
                              text_of(shape));
    if (!array.dtype().equal(py::dtype::of<T>()) ||
        (array.flags() & (kContiguous | kAligned)) != (kContiguous | kAligned))
        throw py::value_error(std::string(name) +
                              ": expected a contiguous, aligned array of the call's dtype");
    return static_cast<const T*>(array.data());
}

// As view, of an array of three dimensions that may have any strides in the first two. Strides are
// in elements.
template <class T>
struct Strided {
    const T* data = nullptr;
    Index step = 0, row = 0;
};

template <class T>
Strided<T> strided(const py::handle& given, const char* name, const std::vector<Index>& shape) {
    if (given.is_none()) return {};
    if (!py::isinstance<py::array>(given))
        throw py::value_error(std::string(name) + ": expected a NumPy array");
    const auto array = py::reinterpret_borrow<py::array>(given);
    constexpr Index item = sizeof(T);
    bool fits = array.ndim() == 3 && array.dtype().equal(py::dtype::of<T>()) &&
                (array.flags() & kAligned) != 0;
    for (py::ssize_t i = 0; fits && i < 3; ++i)
        fits = array.shape(i) == shape[static_cast<std::size_t>(i)];
    fits = fits &&
           (array.size() == 0 || ((array.shape(2) <= 1 || array.strides(2) == item) &&
                                  array.strides(0) % item == 0 && array.strides(1) % item == 0));
    if (!fits)
        throw py::value_error(std::string(name) +
                              ": expected an array of the call's dtype, shape " + text_of(shape) +
                              ", contiguous in its last dimension");
    return {static_cast<const T*>(array.data()), array.strides(0) / item, array.strides(1) / item};
}

template <class T>
py::array_t<T> empty(const std::vector<Index>& shape) {
    return py::array_t<T>(std::vector<py::ssize_t>(shape.begin(), shape.end()));
}

// An uninitialised array that starts on a 64-byte boundary. NumPy allocates and owns the memory.
template <class T>
py::array_t<T> aligned(const std::vector<Index>& shape) {
    Index items = 1;
    for (const Index n : shape) items *= n;
    constexpr Index kSlack = kBlockBytes / static_cast<Index>(sizeof(T));
    py::array_t<T> owner(items + kSlack);
    const auto at = reinterpret_cast<std::uintptr_t>(owner.mutable_data());
    const auto skip = (kBlockBytes - at % kBlockBytes) % kBlockBytes;
    return py::array_t<T>(std::vector<py::ssize_t>(shape.begin(), shape.end()),
                          owner.mutable_data() + skip / sizeof(T), owner);
}

// New arrays that are filled and returned as one tuple, with None for those that are not needed.
template <class T>
class Collected {
  public:
    T* add(const std::vector<Index>& shape, bool has = true) {
        if (!has) {
            list_.append(py::none());
            return nullptr;
        }
        list_.append(empty<T>(shape));
        return at(static_cast<Index>(list_.size()) - 1);
    }
    T* at(Index i) {
        return py::reinterpret_borrow<py::array_t<T>>(list_[static_cast<std::size_t>(i)])
            .mutable_data();
    }
    py::tuple tuple() const { return py::tuple(list_); }

  private:
    py::list list_;
};

}  // namespace fusedrnn
