// Packs weights of one type for kernels that compute in another: float32 weights and float64 sums.
// The products must have the bits of float64 weights of the same values. run.sh builds this once
// per ISA.
#include <bit>
#include <cstdint>
#include <cstdio>
#include <random>
#include <vector>

#include "inner/weights.hpp"

namespace {

namespace kernel = fusedrnn::FUSEDRNN_ISA;
using fusedrnn::CellInfo;
using fusedrnn::Index;
using Numbers = std::vector<double>;

int failures = 0;

void expect_equal(const char* what, const Numbers& got, const Numbers& want) {
    for (std::size_t i = 0; i < want.size(); ++i)
        if (std::bit_cast<std::uint64_t>(got[i]) != std::bit_cast<std::uint64_t>(want[i]) &&
            failures++ < 20)
            std::printf("%s, element %zu: %a, expected %a\n", what, i, got[i], want[i]);
}

Numbers numbers(Index count, std::mt19937_64& bits) {
    std::normal_distribution<double> normal;
    Numbers out(static_cast<std::size_t>(count));
    for (double& x : out) x = normal(bits);
    return out;
}

// What float32 keeps of each number.
Numbers rounded(Numbers all) {
    for (double& x : all) x = static_cast<float>(x);
    return all;
}

const std::byte* bytes(const void* data) { return static_cast<const std::byte*>(data); }

// Sums of `rows` rows for every forward panel and the weights of one K index, from panels of W.
template <class W>
Numbers forward(const CellInfo& cell, Index hidden, Index k, Index rows, const Numbers& matrix,
                const Numbers& a) {
    const kernel::SlotPanels<double> slots{cell, hidden, 0, cell.gates};
    const Index width = fusedrnn::kPanelVectors * kernel::kLanes<double>, all = slots.count();
    // Tiles prefetch past the end of the panels, which is allowed.
    std::vector<W> pack(static_cast<std::size_t>(all * width * k), W(7));
    W* const end = pack.data() + pack.size();
    kernel::pack_rows<double, W>(slots, matrix.data(), k, pack.data(), end, {all, 0, 1});
    const kernel::Weights<double, W> w(slots, nullptr, k, bytes(pack.data()));
    Numbers out(static_cast<std::size_t>(all * rows * width), 0.5);
    for (Index p = 0; p < all; ++p)
        w.multiply(rows, p, 1, {out.data() + p * rows * width, slots.stride(p)},
                   {a.data(), k, 1, k});
    double room[fusedrnn::kPanelVectors * kernel::kLanes<double>];
    for (Index p = 0; p < all; ++p) {
        const double* row = w.row(p, k - 1, room);
        out.insert(out.end(), row, row + slots.stride(p));
    }
    return out;
}

// Sums of `rows` rows for every backward panel, from panels of W.
template <class W>
Numbers backward(const CellInfo& cell, Index hidden, Index columns, Index rows,
                 const Numbers& matrix, const Numbers& a) {
    const Index depth = hidden * cell.gates, all = kernel::column_panels<double>(columns);
    const Index width = fusedrnn::kPanelVectors * kernel::kLanes<double>;
    std::vector<W> pack(static_cast<std::size_t>(all * width * depth), W(7));
    kernel::pack_columns<double, W>(cell, hidden, 0, cell.gates, matrix.data(), columns,
                                    pack.data(), pack.data() + pack.size(), {all, 0, 1});
    Numbers out(static_cast<std::size_t>(all * rows * width), 0.5);
    for (Index p = 0; p < all; ++p) {
        const kernel::ColumnPanel<double, W> w(bytes(pack.data()), p, columns, depth);
        w.multiply(rows, {out.data() + p * rows * width, w.vectors * kernel::kLanes<double>},
                   {a.data(), depth, 1, depth});
    }
    return out;
}

}  // namespace

int main() {
    constexpr CellInfo kCells[] = {{"one", 1, 1, 0, 0, 1, 0}, {"four", 4, 4, 0, 0, 2, 0}};
    std::mt19937_64 bits(1);
    int cases = 0;
    for (const CellInfo& cell : kCells)
        for (const Index hidden : {1, 5, 8, 21})
            for (const Index k : {1, 9, 130})
                for (const Index rows : {1, 2, 3, 7, 13}) {
                    ++cases;
                    const Index depth = hidden * cell.gates;
                    const Numbers matrix = numbers(depth * k, bits), exact = rounded(matrix);
                    const Numbers a = numbers(rows * k, bits), da = numbers(rows * depth, bits);
                    expect_equal("forward", forward<float>(cell, hidden, k, rows, matrix, a),
                                 forward<double>(cell, hidden, k, rows, exact, a));
                    expect_equal("backward", backward<float>(cell, hidden, k, rows, matrix, da),
                                 backward<double>(cell, hidden, k, rows, exact, da));
                }
    std::printf("test_weights: %d cases, %d failures\n", cases, failures);
    return failures == 0 ? 0 : 1;
}
