// The weights of one layer and direction as the kernels of one instruction set read them.
//
// PackedWeights keep the arrays they were made from and copy them into panels when a call first
// needs them, separately for forward and for backward calls. To change the arrays, call close()
// before and open() afterwards; a call in between raises RuntimeError, and so does close() without
// `wait` while a call reads the weights. Everything here except the packing itself runs under the
// interpreter's lock, so plain integers are safe.
#pragma once

#include <unistd.h>

#include <iterator>
#include <memory>
#include <stdexcept>
#include <utility>

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

// The two forms of packed weights: what forward calls read, and what backward calls read.
enum class Form : int { kForward = 0, kBackward = 1 };

class PackedWeights {
  public:
    // `arrays` are w_ih [n*H][I], w_hh [n*H][P], b_ih and b_hh [n*H], p [vectors][H], w_hr [P][H],
    // C-contiguous and of one dtype; None for what the layer does not have. The tuple is kept and
    // nothing is copied, so panels get the values that the arrays have when they are packed.
    // `options` are those of the cells with chosen activations, None for the others.
    PackedWeights(const std::string& isa, const std::string& cell, py::tuple arrays,
                  py::object options)
        : table(find_isa(isa)),
          cell_number(cell_index(table, cell)),
          info(table.info[cell_number]),
          options(std::move(options)),
          arrays_(std::move(arrays)) {
        if (arrays_.size() != 6) throw py::value_error("weights: expected six arrays or None");
        const py::object w_ih = arrays_[0], w_hr = arrays_[5];
        const bool is_array = py::isinstance<py::array>(w_ih);
        const auto w = py::reinterpret_borrow<py::array>(w_ih);
        if (!is_array || w.ndim() != 2) throw py::value_error("w_ih: expected an array (n*H, I)");
        const Index rows = w.shape(0);
        wide = py::isinstance<py::array_t<double, 0>>(w);
        if (!wide && !py::isinstance<py::array_t<float, 0>>(w))
            throw py::value_error("w_ih: expected float32 or float64");
        input = w.shape(1);
        hidden = rows / info.x_gates;
        project = !w_hr.is_none();
        output = project ? static_cast<Index>(py::len(w_hr)) : hidden;
        if (project && (info.states < 2 || info.norm))
            throw py::value_error("w_hr: this cell does not project");
        const Request request{.cell = info,
                              .steps = 0,
                              .batch = 0,
                              .input = input,
                              .hidden = hidden,
                              .output = output,
                              .project = project,
                              .drop = false,
                              .directions = 1,
                              .threads = 1,
                              .save = false,
                              .tokens = false,
                              .item = item(),
                              .weight_item = item(),
                              .unpacked = false};
        if (rows % info.x_gates != 0 || !make_layout(request, layout_))
            throw py::value_error("w_ih: its shape is not that of a layer of this cell");
        if (wide)
            verify<double>();
        else
            verify<float>();
    }
    PackedWeights(const PackedWeights&) = delete;
    PackedWeights& operator=(const PackedWeights&) = delete;

    const Table& table;
    const int cell_number;
    const CellInfo info;
    const py::object options;
    Index input = 0, hidden = 0, output = 0;  // I, H, P
    bool project = false, wide = false;       // whether W_hr is there; whether float64

    bool same_layer(const PackedWeights& other) const {
        return &table == &other.table && cell_number == other.cell_number && input == other.input &&
               hidden == other.hidden && output == other.output && project == other.project &&
               wide == other.wide;
    }

    // Calls body(array) for each array that the layer has.
    template <class Body>
    void each_array(Body body) const {
        for (const py::handle& one : arrays_)
            if (!one.is_none()) body(py::reinterpret_borrow<py::object>(one));
    }

    std::string isa() const { return table.isa; }
    Index nbytes() const { return bytes(Form::kForward) + bytes(Form::kBackward); }

    // Whether a call of so many steps and rows reads the arrays themselves, without panels: only a
    // short call does, and only the first one with these values.
    bool unpacked(Index steps, Index batch) {
        const bool first = !read_once_;
        read_once_ = true;
        return first && panels_[static_cast<int>(Form::kForward)].state == State::kStale &&
               unpacked_pays(steps, batch);
    }

    // Gives up the arrays before they change. Without `wait` it is an error if a call reads the
    // weights. With `wait` it waits for calls that pack the arrays or read them directly; a call
    // that has its panels goes on with them, and the next panels are made in other memory.
    void close(bool wait) {
        if (closed_ && !wait) throw std::runtime_error("weights: another thread is changing them");
        if (!wait && readers_ > 0)
            throw std::runtime_error("weights: a call in another thread reads them");
        closed_ = true;
        for (Panels& panels : panels_)
            while (panels.state == State::kPacking && panels.process == getpid()) {
                const py::gil_scoped_release free;
                usleep(20);
            }
        while (array_readers_ > 0 && array_process_ == getpid()) {
            const py::gil_scoped_release free;
            usleep(20);
        }
        arrays_ = py::tuple();
    }
    // Takes arrays of the same shapes as before. If `changed`, panels are made anew when they are
    // next needed, in the memory of the old ones unless a call still reads those.
    void open(py::tuple arrays, bool changed) {
        arrays_ = std::move(arrays);
        closed_ = false;
        if (!changed) return;
        read_once_ = false;
        for (Panels& panels : panels_) {
            panels.state = State::kStale;
            if (readers_ > 0) panels.memory = nullptr;
        }
    }

    // Makes the weights that replace these, with other values and the same shapes; these stay
    // closed. The new ones take over the memory of the panels unless a call still reads it.
    std::unique_ptr<PackedWeights> heir(py::tuple arrays) {
        if (!closed_) throw std::runtime_error("weights: close them first");
        auto made =
            std::make_unique<PackedWeights>(table.isa, info.name, std::move(arrays), options);
        for (std::size_t i = 0; readers_ == 0 && i < std::size(panels_); ++i)
            made->panels_[i].memory = std::move(panels_[i].memory);
        return made;
    }

    // A call holds a Reading while it reads the weights. It is made and destroyed under the
    // interpreter's lock.
    class Reading {
      public:
        explicit Reading(PackedWeights& pack) : pack_(&pack) {
            pack.refuse_if_closed();
            ++pack.readers_;
        }
        Reading(Reading&& other) noexcept : pack_(std::exchange(other.pack_, nullptr)) {}
        Reading(const Reading&) = delete;
        Reading& operator=(const Reading&) = delete;
        Reading& operator=(Reading&&) = delete;
        ~Reading() {
            if (pack_ != nullptr) --pack_->readers_;
        }

      private:
        PackedWeights* pack_;
    };

    // A Reading of the arrays themselves: close(true) waits for the end of the call.
    class ArrayReading {
      public:
        explicit ArrayReading(PackedWeights& pack) : reading_(pack), pack_(&pack) {
            // After fork(), the child counts none of the threads of its parent.
            if (pack.array_process_ != getpid()) pack.array_readers_ = 0;
            pack.array_process_ = getpid();
            ++pack.array_readers_;
        }
        ArrayReading(ArrayReading&& other) noexcept
            : reading_(std::move(other.reading_)), pack_(std::exchange(other.pack_, nullptr)) {}
        ArrayReading(const ArrayReading&) = delete;
        ArrayReading& operator=(const ArrayReading&) = delete;
        ArrayReading& operator=(ArrayReading&&) = delete;
        ~ArrayReading() {
            if (pack_ != nullptr) --pack_->array_readers_;
        }

      private:
        Reading reading_;
        PackedWeights* pack_;
    };

    // The arrays, for a call that holds an ArrayReading.
    template <class T>
    Pack<T> arrays(const Layout& layout) const {
        Pack<T> job = sources<T>();
        job.layout = layout;
        return job;
    }

    using Memory = std::shared_ptr<const Scratch<std::byte>>;

    // The panels of a form, packed now if they are stale. The caller holds a Reading, and keeps the
    // returned pointer while it reads. If several threads call this at the same time, one packs and
    // the others wait for it.
    Memory panels(Form form) {
        Panels& panels = panels_[static_cast<int>(form)];
        while (panels.state != State::kReady) {
            // A child made by fork() may inherit kPacking without the thread that packs.
            if (panels.state == State::kPacking && panels.process == getpid()) {
                const py::gil_scoped_release free;
                usleep(20);
                continue;
            }
            refuse_if_closed();
            if (wide)
                pack<double>(form, panels);
            else
                pack<float>(form, panels);
        }
        return panels.memory;
    }

    // A copy of the panels, for tests of the layout.
    py::object copied(bool backward) {
        const Form form = backward ? Form::kBackward : Form::kForward;
        const Reading reading(*this);
        const Memory from = panels(form);
        py::array out(py::dtype(wide ? "f8" : "f4"), total(form) / item());
        std::memcpy(out.mutable_data(), from->data(), static_cast<std::size_t>(total(form)));
        return out;
    }

  private:
    void refuse_if_closed() const {
        if (closed_)
            throw std::runtime_error(
                "parameters changed while this call read them: it computed "
                "nothing; repeat it");
    }

    enum class State { kStale, kPacking, kReady };
    struct Panels {
        State state = State::kStale;
        pid_t process = 0;
        std::shared_ptr<Scratch<std::byte>> memory;  // null until a call needs it
    };

    Index item() const { return static_cast<Index>(wide ? sizeof(double) : sizeof(float)); }
    Index total(Form form) const {
        return form == Form::kForward ? layout_.pack_total : layout_.back_total;
    }
    Index bytes(Form form) const {
        return panels_[static_cast<int>(form)].memory == nullptr ? 0 : total(form);
    }

    template <class T>
    void verify() const {
        const bool recurrent = info.h_first < info.gates;
        const auto source = sources<T>();
        if ((recurrent && source.w_hh == nullptr) || (info.vectors > 0 && source.p == nullptr))
            throw py::value_error("weights: this cell needs w_hh and, with peepholes, p");
    }

    template <class T>
    Pack<T> sources() const {
        const Index rows = info.x_gates * hidden;
        Pack<T> job{};
        job.cell = info;
        job.layout = layout_;
        job.w_ih = view<T>(py::object(arrays_[0]), "w_ih", {rows, input});
        if (info.h_first < info.gates)
            job.w_hh = view<T>(py::object(arrays_[1]), "w_hh", {rows, output});
        job.b_ih = view<T>(py::object(arrays_[2]), "b_ih", {rows});
        job.b_hh = view<T>(py::object(arrays_[3]), "b_hh", {rows});
        job.p = view<T>(py::object(arrays_[4]), "p", {info.vectors, hidden});
        job.w_hr = view<T>(py::object(arrays_[5]), "w_hr", {output, hidden});
        return job;
    }

    // Memory bandwidth limits packing. More threads pay if one core cannot use all of it and the
    // panels do not fit into the cache of one core.
    int threads_for(Form form) const {
        constexpr Index kBytesOfAThread = 1024 * 1024;
        const Index size = total(form);
        if (size < 2 * kBytesOfAThread) return 1;
        return static_cast<int>(std::min<Index>(default_threads(), size / kBytesOfAThread));
    }

    template <class T>
    void pack(Form form, Panels& panels) {
        Pack<T> job = sources<T>();
        panels.state = State::kPacking;
        panels.process = getpid();
        try {
            if (panels.memory == nullptr)
                panels.memory = std::make_shared<Scratch<std::byte>>(total(form));
            job.out = panels.memory->data();
            const py::gil_scoped_release free;
            const Kernels<T>& kernels = kernels_of<T>(table);
            Barrier none{};
            run(form == Form::kForward ? kernels.pack : kernels.pack_backward, &job,
                {threads_for(form), false}, none);
        } catch (...) {
            panels.state = State::kStale;
            throw;
        }
        panels.state = State::kReady;
    }

    Layout layout_;
    py::tuple arrays_;
    bool closed_ = false;
    bool read_once_ = false;  // whether a call has read these values
    int readers_ = 0, array_readers_ = 0;
    pid_t array_process_ = 0;
    Panels panels_[2];
};

}  // namespace fusedrnn
