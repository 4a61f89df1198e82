#include "layout.hpp"

#include <algorithm>

#include "caches.hpp"

namespace fusedrnn {
namespace {

// 64-bit arithmetic that records whether anything overflowed.
class Checked {
  public:
    Index mul(Index a, Index b) {
        Index c = 0;
        ok_ = !__builtin_mul_overflow(a, b, &c) && ok_;
        return ok_ ? c : 0;
    }
    Index add(Index a, Index b) {
        Index c = 0;
        ok_ = !__builtin_add_overflow(a, b, &c) && ok_;
        return ok_ ? c : 0;
    }
    Index round_up(Index n, Index to) { return mul(add(n, to - 1) / to, to); }
    bool ok(Index bytes_per_item, Index items) {
        mul(bytes_per_item, items);
        return ok_;
    }

  private:
    bool ok_ = true;
};

// Consecutive regions of memory, each a multiple of a 64-byte block. take() returns where the next
// one starts, in units of `item` bytes.
class Regions {
  public:
    Regions(Checked& n, Index item) : n_(n), block_(kBlockBytes / item) {}
    Index take(Index rows, Index row, Index units = 1) {
        const Index at = total_;
        total_ = n_.add(total_, n_.round_up(n_.mul(n_.mul(rows, row), units), block_));
        return at;
    }
    Index total() const { return total_; }

  private:
    Checked& n_;
    Index block_, total_ = 0;
};

// What has to fit into which cache, in bytes.
struct Limits {
    explicit Limits(Caches at)
        : projected(at.l2 / 2), merged(at.l2 / 8 * 5), hidden(std::min(at.l3 / 2, kShareOfL3)) {}
    // W x of a block of several steps has at most this size, so that it stays in L2 until it is
    // read.
    Index projected;
    // A step that computes W x itself need not write it and read it again. This pays with at least
    // kMergedRows rows if W and R together have at most this size, so that they stay in L2.
    Index merged;
    // Larger weights come from memory. A large L3 cache is shared with other cores and, on a
    // virtual machine, with strangers, so only so much of it counts.
    Index hidden;
    static constexpr Index kShareOfL3 = 16 * 1024 * 1024;
};
constexpr Index kMergedRows = 6;
// With so many rows a step computes W x itself whatever the size of W and R, because the products
// take longer than streaming both; with twice as many if W and R come from memory.
constexpr Index kHidingRows = 16;
// Threads divide rows only if each gets at least this many.
constexpr Index kRowsPerThread = 6;

}  // namespace

bool make_layout(const Request& call, Layout& out) {
    Checked n;
    const Index block = kBlockBytes / call.item;
    const CellInfo& cell = call.cell;
    const Index T = call.steps, B = call.batch, I = call.input, H = call.hidden;
    const Index P = call.output;
    if (T < 0 || B < 0 || I < 0 || H <= 0 || P <= 0 || (!call.project && P != H)) return false;
    const int early = cell.gates - cell.late;
    const Index recurrent = cell.h_first < cell.gates ? early - cell.h_first : 0;

    out = Layout{};
    out.steps = T;
    out.batch = B;
    out.input = I;
    out.hidden = H;
    out.output = P;
    out.project = call.project;
    out.unpacked = call.unpacked;
    out.directions = call.directions;
    out.padded = n.round_up(H, block);
    out.out_padded = n.round_up(P, block);
    out.state_row = n.add(out.padded, block);
    out.out_row = n.add(out.out_padded, block);
    out.gate_row = n.mul(out.padded, cell.gates);
    out.saved_row = n.mul(out.padded, cell.gates + cell.states - 1);
    out.group = call.group;
    const Index sharing = std::max<Index>(1, call.group > 0 ? call.group : B);
    out.partial_steps = std::max<Index>(1, kPartialRows / sharing);

    const Index step_bytes = n.mul(n.mul(B, out.gate_row), call.item);
    const Index weight_bytes = n.mul(n.mul(out.gate_row, n.add(I, P)), call.weight_item);
    const Limits limits(caches());
    const Index hiding = weight_bytes <= limits.hidden ? kHidingRows : 2 * kHidingRows;
    // Reading unpacked weights in every step costs more than writing W x and reading it again.
    const bool merged =
        T == 1 ||
        (!call.unpacked && (B >= hiding || (B >= kMergedRows && weight_bytes <= limits.merged)));
    if (!call.tokens && !merged && I > 0)
        out.block_steps = std::clamp<Index>(limits.projected / std::max<Index>(1, step_bytes), 1,
                                            std::max<Index>(1, T));

    const Index item = call.item, weight = call.weight_item;
    Regions pack(n, 1);
    out.pack_bias = pack.take(out.padded, cell.gates, item);
    out.pack_vectors = pack.take(out.padded, cell.vectors, item);
    out.pack_x = pack.take(n.mul(out.padded, cell.x_gates), I, weight);
    out.pack_h = pack.take(n.mul(out.padded, recurrent), P, weight);
    out.pack_late = pack.take(n.mul(out.padded, cell.late), P, weight);
    out.pack_project = pack.take(call.project ? out.out_padded : 0, H, weight);
    out.pack_total = pack.total();

    Regions back(n, 1);
    out.back_bias = back.take(cell.norm ? out.padded : 0, cell.gates, item);
    out.back_vectors = back.take(out.padded, cell.vectors, item);
    out.back_h = back.take(n.mul(out.out_padded, recurrent), H, weight);
    out.back_late = back.take(n.mul(out.out_padded, cell.late), H, weight);
    out.back_x = back.take(n.mul(n.round_up(I, block), cell.x_gates), H, weight);
    out.back_project = back.take(call.project ? out.padded : 0, P, weight);
    out.back_total = back.total();

    Regions fwd(n, item);
    out.fwd_head = fwd.take(call.unpacked ? 1 : 0, out.pack_x / item);
    out.fwd_h = fwd.take(n.mul(B, 2), out.out_row);
    out.fwd_drop = fwd.take(call.drop ? n.mul(B, 2) : 0, out.out_row);
    out.fwd_u = fwd.take(cell.late > 0 || cell.norm || call.project ? B : 0, out.state_row);
    out.fwd_c = fwd.take(cell.states > 1 ? B : 0, out.state_row);
    const Index least_steps = cell.late > 0 || cell.norm ? 1 : 0;
    out.fwd_gates = fwd.take(
        call.save ? 0 : n.mul(B, std::max<Index>(out.block_steps, least_steps)), out.gate_row);
    out.fwd_gather_thread = n.round_up(n.mul(kGroupRows, I), block);
    out.fwd_gather = fwd.take(call.threads, out.fwd_gather_thread);
    out.fwd_total = fwd.total();

    Regions bwd(n, item);
    const Index block_steps = std::min(out.partial_steps, std::max<Index>(1, T));
    const Index rows = n.mul(B, block_steps);
    out.bwd_dh = bwd.take(B, out.out_row);
    out.bwd_dc = bwd.take(cell.states > 1 ? B : 0, out.state_row);
    out.bwd_da = bwd.take(n.add(B, rows), out.gate_row);
    const Index terms = cell.vectors + (cell.norm ? kNormBiases : 0);
    out.bwd_terms = bwd.take(cell.norm ? rows : 0, n.mul(out.padded, terms));
    out.bwd_dy = bwd.take(call.project || cell.norm ? rows : 0, out.out_row);
    const bool grouped = call.group > 0;
    const Index partial = std::min(kPartialRows, n.mul(sharing, block_steps));
    const Index read = grouped ? partial : rows, own = grouped ? partial : 0;
    out.bwd_rows = read;
    out.bwd_x = bwd.take(call.tokens ? 0 : read, n.round_up(I, block));
    out.bwd_u = bwd.take(recurrent > 0 ? read : 0, out.out_padded);
    out.bwd_late = bwd.take(cell.late > 0 ? read : 0, out.padded);
    out.bwd_own_da = bwd.take(own, out.gate_row);
    out.bwd_own_terms = bwd.take(cell.norm ? own : 0, n.mul(out.padded, terms));
    out.bwd_own_dy = bwd.take(call.project ? own : 0, out.out_row);
    out.bwd_strip_thread = n.mul(
        kPartialRows, n.add(std::max<Index>(kGradientLanes, n.mul(cell.gates, block)), block));
    out.bwd_strip = bwd.take(grouped ? 1 : call.threads, out.bwd_strip_thread);
    out.bwd_db = bwd.take(out.padded, cell.gates);
    out.bwd_dp = bwd.take(out.padded, terms);
    out.bwd_thread = bwd.total() - out.bwd_x;
    out.bwd_total = n.add(bwd.total(), grouped ? n.mul(call.threads - 1, out.bwd_thread) : 0);

    const Index saved = n.mul(n.mul(n.mul(T, B), out.saved_row), call.directions);
    const Index arrays = n.add(n.mul(n.mul(T, B), n.add(I, n.mul(call.directions, P))), saved);
    for (const Index items : {out.pack_total, out.back_total, out.fwd_total, out.bwd_total, arrays})
        if (!n.ok(call.item, items)) return false;
    return true;
}

bool unpacked_pays(Index steps, Index batch) {
    constexpr Index kMostSteps = 2, kMostRows = 32;
    return steps <= kMostSteps && steps * batch <= kMostRows;
}

double step_flops(const Request& call) {
    const CellInfo& cell = call.cell;
    return 2.0 * static_cast<double>(call.batch) * static_cast<double>(call.hidden) *
           (static_cast<double>(cell.x_gates) * static_cast<double>(call.tokens ? 0 : call.input) +
            static_cast<double>(cell.gates - cell.h_first + (call.project ? 1 : 0)) *
                static_cast<double>(call.output));
}

double total_flops(const Request& call) {
    return step_flops(call) * static_cast<double>(call.steps) * call.directions;
}

namespace {

// How many times longer a call takes than its products do from packed weights. Reading a matrix in
// its place takes as long as the products of ten rows.
double slowness(const Request& call) {
    constexpr double kRowsOfReading = 10.0;
    const auto rows = static_cast<double>(std::max<Index>(1, call.batch));
    return call.unpacked ? 1.0 + kRowsOfReading / rows : 1.0;
}

Plan plan_direction(const Request& call, int threads) {
    // Least work of a thread in a step: a barrier costs a few tenths of a microsecond.
    constexpr double kBarrierFlops = 3e5;
    const bool recurrent = call.cell.h_first < call.cell.gates;
    const Index rows = call.batch / kRowsPerThread;
    // Layer normalisation needs statistics of whole rows, so a row belongs to one thread.
    if (rows >= threads || !recurrent || call.cell.norm)
        return {static_cast<int>(std::min<Index>(threads, std::max<Index>(1, rows))), Split::kRows};
    const double per_step = step_flops(call) * slowness(call) / kBarrierFlops;
    const Index block = kBlockBytes / call.item;
    const Index panels = (call.hidden + block - 1) / block;
    threads = static_cast<int>(std::min<Index>(threads, panels));
    if (per_step < threads) threads = std::max(1, static_cast<int>(per_step));
    return {threads, Split::kUnits};
}

// Threads for which work of so many operations is enough: starting a team costs about a
// microsecond.
int threads_worth(double flops) {
    constexpr double kRegionFlops = 1e6;
    return static_cast<int>(std::clamp(flops / kRegionFlops, 1.0, 1e6));
}

}  // namespace

Plan plan_threads(const Request& call, const std::function<int()>& most, bool backward) {
    const int worth = threads_worth(total_flops(call) * slowness(call));
    const int threads = worth == 1 ? 1 : std::clamp(most(), 1, worth);
    if (threads == 1) return {1, Split::kRows};
    const Plan plan = plan_direction(call, threads);
    if (call.directions < 2) return plan;
    // A thread that walks one direction only has one set of weights in its cache and needs no
    // barrier.
    const Index rows = std::max<Index>(1, call.batch / kRowsPerThread);
    const int apart = 2 * static_cast<int>(std::min<Index>(threads / 2, rows));
    // A backward call that walks both directions at once needs twice the scratch and one more dx,
    // so it does this only if threads cannot divide the rows.
    const bool rows_suffice = backward && plan.split == Split::kRows && plan.threads >= apart;
    return apart >= plan.threads && !rows_suffice ? Plan{apart, Split::kDirections} : plan;
}

int plan_members(const Request& call, Index members, int most) {
    const int worth =
        threads_worth(total_flops(call) * slowness(call) * static_cast<double>(members));
    return static_cast<int>(std::min<Index>(members, std::min(most, worth)));
}

}  // namespace fusedrnn
