// Which rows live at a walk step, where they lie in the call's arrays, and where their past was
// cut. A direction walks its steps s = 0, 1, ...: times rise forwards, and fall in the reverse
// direction from each row's own last valid step.
#pragma once

#include "../cells/slots.hpp"
#include "../tile.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

// The rows of a thread: all of them where threads divide units.
template <class T>
Share rows_of(const Call<T>& call, int thread, int threads) {
    if (call.split == Split::kUnits) return {call.layout.batch, 0, 1};
    return {call.layout.batch, call.part.index * threads + thread, call.part.count * threads};
}

template <class T>
class Rows {
  public:
    Rows(const Call<T>& call, int direction)
        : call_(call),
          reverse_(direction == 1),
          times_(call.schedule.times[direction]),
          cut_(call.schedule.cut[direction]) {}

    bool dense() const { return call_.schedule.row == nullptr; }
    Index live(Index s) const {
        if (s >= call_.layout.steps) return 0;
        return dense() ? call_.layout.batch : call_.schedule.live[s];
    }
    Index before(Index s) const {  // rows of all walk steps before s
        return dense() ? s * call_.layout.batch : call_.schedule.start[s];
    }
    Index batch(Index r) const { return dense() ? r : call_.schedule.row[r]; }
    Index length(Index r) const { return dense() ? call_.layout.steps : call_.schedule.length[r]; }
    Index time(Index s, Index r) const {
        if (times_ != nullptr) return times_[batch(r) * call_.layout.steps + s];
        return reverse_ ? length(r) - 1 - s : s;
    }

    bool cuts() const { return cut_ != nullptr; }
    // True where the state that enters walk step s (leaves, at s = length) is `initial`, not what
    // step s - 1 left.
    bool cut(Index s, Index r) const {
        return cut_ != nullptr && cut_[s * call_.layout.batch + batch(r)] != 0;
    }

    // Row of (t, b) in a contiguous [T][B] array.
    Index at(Index s, Index r) const { return time(s, r) * call_.layout.batch + batch(r); }

    const T* x(Index s, Index r) const {
        return call_.x + time(s, r) * call_.x_step + batch(r) * call_.x_row;
    }
    Index token(Index s, Index r) const { return call_.tokens[at(s, r)]; }
    Index y(Index s, Index r) const { return time(s, r) * call_.y_step + batch(r) * call_.y_row; }
    Index dy(Index s, Index r, const Backward<T>& call) const {
        return time(s, r) * call.dy_step + batch(r) * call.dy_row;
    }
    Index saved(Index s, Index r) const { return at(s, r) * call_.layout.saved_row; }

  private:
    const Call<T>& call_;
    bool reverse_;
    const Index* times_;
    const std::uint8_t* cut_;
};

// Walks (step, rank) pairs: those of the ranks [first, last) that live at each step, or, if `list`
// is not null, of the rising ranks list[first] to list[last - 1]. Steps rise (by = 1) or fall
// (by = -1). Stops being meaningful after the last pair.
template <class T>
struct Cursor {
    const Rows<T>& rows;
    Index s, r, i, first, last, by;
    const Index* list;

    Cursor(const Rows<T>& rows_, Index step, Index first_, Index last_, Index by_,
           const Index* list_ = nullptr)
        : rows(rows_), s(step), i(first_), first(first_), last(last_), by(by_), list(list_) {
        r = rank();
        while (by < 0 && s > 0 && r >= rows.live(s)) --s;
    }

    Index rank() const { return list == nullptr ? i : list[i]; }

    void next() {
        ++i;
        if (i < last) r = rank();
        if (i < last && r < rows.live(s)) return;
        i = first;
        r = rank();
        s += by;
    }
};

// The first n lanes, a plain store where that is all of them (masked ones are slow on AVX2).
template <class T>
FUSEDRNN_INLINE void put(T* to, vec<std::type_identity_t<T>> v, int n) {
    if (n >= kLanes<T>)
        store(to, v);
    else
        store_n(to, v, n);
}

template <class T>
FUSEDRNN_INLINE vec<T> take(const T* from, int n) {
    return n >= kLanes<T> ? load(from) : load_n(from, n);
}

// A function of its own: the loop that a compiler makes of it looks first whether the two overlap,
// and would stand in the walks of every cell.
template <class T>
[[gnu::noinline]] void copy(const T* from, T* to, Index n) {
    Index i = 0;
    for (; i + kLanes<T> <= n; i += kLanes<T>) store(to + i, load(from + i));
    for (; i < n; ++i) to[i] = from[i];
}

}  // namespace fusedrnn::FUSEDRNN_ISA
