// Instantiates every cell for one instruction set and one dtype. AllCells is the only list of cells
// in C++. A source file that includes this is compiled once for each dtype, so that a build
// uses more cores. It exports only the kernels of that dtype and, if that is float, kTable.
#pragma once

#include "../cells/chosen.hpp"
#include "../cells/elman.hpp"
#include "../cells/gru.hpp"
#include "../cells/lstm.hpp"
#include "../cells/norm.hpp"
#include "../pack.hpp"
#include "../probe.hpp"
#include "../scan/forward.hpp"
#include "../scan/norm_backward.hpp"
#include "../scan/norm_forward.hpp"
#include "../scan/reduce.hpp"

namespace fusedrnn::FUSEDRNN_ISA {

template <Cell C, class T>
inline constexpr ForwardCell<T> kForward = forward_cell<C, T>();
template <Cell C, class T>
inline constexpr BackwardCell<T> kBackward = backward_cell<C, T>();

template <Cell C, class T>
void forward_of(void* call, int thread, int threads) {
    forward(*static_cast<const Forward<T>*>(call), kForward<C, T>, thread, threads);
}
template <Cell C, class T>
void backward_of(void* call, int thread, int threads) {
    backward(*static_cast<const Backward<T>*>(call), kBackward<C, T>, thread, threads);
}

template <Cell... C>
struct Cells {
    static constexpr int kCount = sizeof...(C);
    static constexpr CellInfo kInfo[] = {C::kInfo...};
    template <class T>
    static constexpr CellKernels<T> kKernels[] = {{forward_of<C, T>, backward_of<C, T>}...};
};

using AllCells = Cells<ElmanCell<Tanh, kRnnTanh>, ElmanCell<Relu, kRnnRelu>,
                       ElmanCell<Sigmoid, kRnnSigmoid>, ElmanCell<Identity, kRnnIdentity>, Lstm,
                       LstmPeephole, Gru, GruResetBefore, ElmanCell<Identity, kDense>, RnnChosen,
                       LstmChosen, GruChosen, GruResetBeforeChosen, LstmNorm, GruNorm>;

struct ExpOf {
    template <class V> static V of(V x) { return exp(x); }
};
struct SigmoidOf {
    template <class V> static V of(V x) { return sigmoid(x); }
};
struct TanhOf {
    template <class V> static V of(V x) { return tanh(x); }
};

template <class F, class T>
void apply(const T* x, T* y, Index n) {
    Index i = 0;
    for (; i + kLanes<T> <= n; i += kLanes<T>) store(y + i, F::of(load(x + i)));
    if (i < n)
        store_n(y + i, F::of(load_n(x + i, static_cast<int>(n - i))), static_cast<int>(n - i));
}

template <class T>
inline constexpr Kernels<T> kKernels = {
    AllCells::kKernels<T>,
    pack_forward<T, T>,
    pack_backward<T, T>,
    {apply<ExpOf, T>, apply<SigmoidOf, T>, apply<TanhOf, T>},
    {probe_fma<T>, probe_read<T>, 2 * kProbeChains * kLanes<T>}};

#define FUSEDRNN_QUOTE_(x) #x
#define FUSEDRNN_QUOTE(x) FUSEDRNN_QUOTE_(x)

[[gnu::visibility("hidden")]] extern const Kernels<float> kFloat32;
[[gnu::visibility("hidden")]] extern const Kernels<double> kFloat64;

#if FUSEDRNN_DTYPE_BYTES == 8
const Kernels<double> kFloat64 = kKernels<double>;
#else
const Kernels<float> kFloat32 = kKernels<float>;

// outer/dispatch.cpp refers to this symbol.
[[gnu::visibility("hidden")]] extern const Table kTable;
const Table kTable = {FUSEDRNN_QUOTE(FUSEDRNN_ISA),
                      kVectorBytes,
                      AllCells::kCount,
                      AllCells::kInfo,
                      kFloat32,
                      kFloat64};
#endif

}  // namespace fusedrnn::FUSEDRNN_ISA
