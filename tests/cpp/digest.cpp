// Runs the kernels without Python; one file, so that a plain compiler command builds it. It runs
// the cases of tests/data/golden_cases.txt, forward and backward, and prints the SHA-256 of the
// results, as fusedrnn._golden does. compare_digest.py compares them with golden.json.
//
//   digest CASES [--isa NAME] [--threads N [--split rows|units|directions]] [--unpacked] [--arrays]
//          [CASE...]
//   digest --isas            names the instruction sets of this machine
//
// --threads forces a team of N threads, however small the call is (a normalised cell divides rows
// with any split); --unpacked makes the forward pass read the weights without a pack; --arrays
// prints a hash for each array.
#include <bit>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <deque>
#include <fstream>
#include <iterator>
#include <limits>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "outer/dispatch.hpp"
#include "outer/drive.hpp"
#include "outer/layout.hpp"
#include "outer/team.hpp"
#include "sha256.hpp"

namespace {

using namespace fusedrnn;

struct Case {
    std::string name, cell, dtype;
    Index steps, batch, input, hidden;
    int directions;
    bool bias, tokens, lengths, reset;
    std::string activations;  // three names, or "-"
    bool coupled;
};

// ONNX's names in the order of kernels.hpp with their default parameters, as in
// fusedrnn._activations.
struct Named {
    const char* name;
    double alpha, beta;
};
constexpr Named kActivations[] = {{"relu", 0, 0},          {"tanh", 0, 0},
                                  {"sigmoid", 0, 0},       {"affine", 1, 0},
                                  {"leaky_relu", 0.01, 0}, {"thresholded_relu", 1, 0},
                                  {"scaled_tanh", 1, 1},   {"hard_sigmoid", 0.2, 0.5},
                                  {"elu", 1, 0},           {"softsign", 0, 0},
                                  {"softplus", 0, 0}};
constexpr double kClip = 1.5;

template <class T>
ActivationOf<T> activation(const std::string& name) {
    for (std::size_t i = 0; i < std::size(kActivations); ++i)
        if (name == kActivations[i].name)
            return {static_cast<Activation>(i), static_cast<T>(kActivations[i].alpha),
                    static_cast<T>(kActivations[i].beta)};
    throw std::invalid_argument("no activation called " + name);
}

template <class T>
CellOptions<T> cell_options(const Case& c) {
    if (c.activations == "-") return {};
    std::istringstream names(c.activations);
    ActivationOf<T> of[3];
    for (ActivationOf<T>& one : of) {
        std::string name;
        std::getline(names, name, ',');
        one = activation<T>(name);
    }
    return {of[0], of[1], of[2], static_cast<T>(kClip), c.coupled};
}

struct Options {
    const Table* table = nullptr;
    int threads = 0;  // 0: as layout.cpp plans it for one thread
    Split split = Split::kRows;
    bool unpacked = false, arrays = false;
};

std::size_t size(Index n) { return static_cast<std::size_t>(n); }

// splitmix64 seeded with the FNV-1a hash of the label, as fusedrnn._golden.integers.
std::vector<std::uint64_t> integers(const std::string& label, Index count) {
    std::uint64_t state = 0xcbf29ce484222325;
    for (const char c : label) state = (state ^ static_cast<unsigned char>(c)) * 0x100000001b3;
    std::vector<std::uint64_t> out(size(count));
    for (std::uint64_t& z : out) {
        z = (state += 0x9e3779b97f4a7c15);
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
        z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
        z ^= z >> 31;
    }
    return out;
}

// Multiples of 2^-15 in [-1, 1), divided by 2^exponent, as fusedrnn._golden.values.
template <class T>
std::vector<T> values(const std::string& label, Index count, int exponent = 0) {
    std::vector<T> out;
    for (const std::uint64_t z : integers(label, count))
        out.push_back(
            std::ldexp(static_cast<T>(static_cast<Index>(z >> 48) - 32768), -15 - exponent));
    return out;
}

template <class T>
struct Result {
    std::string name;
    std::vector<T> data;
};

template <class T>
class Run {
  public:
    Run(const Case& given, const Options& options) : case_(given), table_(*options.table) {
        for (int i = 0; i < table_.cells; ++i)
            if (given.cell == table_.info[i].name) cell_number_ = i;
        if (cell_number_ < 0) throw std::invalid_argument("no cell called " + given.cell);
        cell_ = table_.info[cell_number_];
        recurrent_ = cell_.h_first < cell_.gates;
        request_ = {.cell = cell_,
                    .steps = given.steps,
                    .batch = given.batch,
                    .input = given.input,
                    .hidden = given.hidden,
                    .output = given.hidden,
                    .project = false,
                    .drop = false,
                    .directions = given.directions,
                    .threads = 1,
                    .save = true,
                    .tokens = given.tokens,
                    .item = sizeof(T),
                    .weight_item = sizeof(T),
                    .unpacked = options.unpacked};
        const Split split = cell_.norm ? Split::kRows : options.split;
        plan_ = options.threads > 0 ? Plan{options.threads, split}
                                    : plan_threads(request_, [] { return 1; }, true);
        request_.threads = plan_.threads;
        if (!make_layout(request_, at_)) throw std::invalid_argument(given.name + ": too large");
        make_inputs();
    }

    std::vector<Result<T>> results() {
        forward();
        backward();
        return std::move(results_);
    }

  private:
    struct Weights {
        std::vector<T> w_ih, w_hh, b_ih, b_hh, p;
    };

    static const T* or_null(const std::vector<T>& array) {
        return array.empty() ? nullptr : array.data();
    }
    std::vector<T> make(const std::string& part, Index count, int exponent = 0) const {
        return values<T>(case_.name + "/" + part, count, exponent);
    }
    // The values are divided by about the square root of the number of columns.
    std::vector<T> matrix(const std::string& part, Index columns) const {
        const auto bits = std::bit_width(static_cast<std::uint64_t>(columns - 1));
        return make(part, rows() * columns, static_cast<int>(bits) / 2);
    }
    Index rows() const { return cell_.x_gates * at_.hidden; }
    Index state_items() const { return at_.directions * at_.batch * at_.hidden; }
    Index y_items() const { return at_.steps * at_.batch * at_.directions * at_.hidden; }

    void make_inputs() {
        const Index n = at_.steps * at_.batch;
        for (int d = 0; d < at_.directions; ++d) {
            const std::string number = std::to_string(d);
            Weights w;
            w.w_ih = matrix("w_ih" + number, at_.input);
            if (recurrent_) w.w_hh = matrix("w_hh" + number, at_.hidden);
            if (case_.bias) w.b_ih = make("b_ih" + number, rows());
            if (case_.bias && recurrent_) w.b_hh = make("b_hh" + number, rows());
            if (cell_.vectors > 0) w.p = make("p" + number, cell_.vectors * at_.hidden, 1);
            weights_.push_back(w);
        }
        if (case_.tokens) {
            for (const std::uint64_t z : integers(case_.name + "/tokens", n))
                tokens_.push_back(static_cast<Index>(z % static_cast<std::uint64_t>(at_.input)));
        } else {
            x_ = make("x", n * at_.input);
        }
        if (case_.lengths) {
            std::vector<Index> length;
            for (Index b = 0; b < at_.batch; ++b)
                length.push_back(b * at_.steps / std::max<Index>(at_.batch - 1, 1));
            ranks_.order(length.data(), at_.batch, at_.steps, at_.group, schedule_);
        }
        if (case_.reset) make_cuts();
        for (int k = 0; k < cell_.states; ++k) {
            const std::string number = std::to_string(k);
            if (case_.bias && recurrent_) {
                states_[k] = make("state" + number, state_items());
                dstates_[k] = make("dstate" + number, state_items());
            }
            if (case_.reset) initial_[k] = make("initial" + number, state_items());
        }
    }

    // Turns resets, by time, into cuts, by walk step of each direction, as core/_plan.py does.
    void make_cuts() {
        std::vector<bool> reset;
        for (const std::uint64_t z : integers(case_.name + "/reset", at_.steps * at_.batch))
            reset.push_back(z >> 62 == 0);
        const Index plane = (at_.steps + 1) * at_.batch;
        cut_.assign(size(at_.directions * plane), 0);
        for (int d = 0; d < at_.directions; ++d) {
            schedule_.cut[d] = cut_.data() + d * plane;
            for (Index r = 0; r < at_.batch; ++r) {
                const Index b = schedule_.row == nullptr ? r : schedule_.row[r];
                const Index length = schedule_.row == nullptr ? at_.steps : schedule_.length[r];
                for (Index s = d; s < length; ++s)
                    cut_[size(d * plane + s * at_.batch + b)] =
                        reset[size((d == 0 ? s : length - s) * at_.batch + b)];
            }
        }
    }

    void fill(Call<T>& call) const {
        call.layout = at_;
        call.schedule = schedule_;
        call.split = plan_.split;
        call.part = {0, 1};
        call.x = or_null(x_);
        call.x_row = at_.input;
        call.x_step = at_.batch * at_.input;
        call.tokens = tokens_.empty() ? nullptr : tokens_.data();
        call.y_row = at_.directions * at_.hidden;
        call.y_step = at_.batch * call.y_row;
        call.options = cell_options<T>(case_);
    }

    // The part of an array of both directions that belongs to direction d.
    template <class Array>
    auto part(Array& array, int d) const {
        return array.empty() ? nullptr : array.data() + d * at_.batch * at_.hidden;
    }

    Pack<T> weights_of(int d) const {
        const Weights& w = weights_[size(d)];
        return {.cell = cell_,
                .layout = at_,
                .w_ih = w.w_ih.data(),
                .w_hh = or_null(w.w_hh),
                .b_ih = or_null(w.b_ih),
                .b_hh = or_null(w.b_hh),
                .p = or_null(w.p),
                .w_hr = nullptr,
                .out = nullptr,
                .head_only = false};
    }

    const std::byte* packed(int d, bool backward) {
        const Index bytes = backward ? at_.back_total : at_.pack_total;
        const Index items = bytes / static_cast<Index>(sizeof(T));
        Scratch<T>& out = memory_.emplace_back(items);
        std::fill_n(out.data(), items, kUnwritten);
        Pack<T> job = weights_of(d);
        job.out = reinterpret_cast<std::byte*>(out.data());
        const Kernels<T>& kernels = kernels_of<T>(table_);
        const auto pack = backward ? kernels.pack_backward : kernels.pack;
        for (int i = 0; i < plan_.threads; ++i) pack(&job, i, plan_.threads);
        return job.out;
    }

    // An array that the kernels must fill. It starts as NaN, so a place that they leave out changes
    // the hash.
    std::vector<T>& result(const std::string& name, Index items, T start) {
        results_.push_back({name, std::vector<T>(size(items), start)});
        return results_.back().data;
    }

    const CellKernels<T>& kernel() const { return kernels_of<T>(table_).cells[cell_number_]; }

    void forward() {
        Forward<T> call{};
        fill(call);
        const bool whole = schedule_.row == nullptr;
        call.y = result("y", y_items(), whole ? kUnwritten : T(0)).data();
        const Index saved = at_.steps * at_.batch * at_.saved_row;
        saved_ = memory_.emplace_back(saved * at_.directions).data();
        for (int k = 0; k < cell_.states; ++k)
            result("state" + std::to_string(k), state_items(), kUnwritten);
        for (int d = 0; d < at_.directions; ++d) {
            auto& direction = call.direction[d];
            direction.saved = saved_ + d * saved;
            direction.scratch = memory_.emplace_back(at_.fwd_total).data();
            if (at_.unpacked)
                read_unpacked(kernels_of<T>(table_), weights_of(d), direction);
            else
                direction.pack = packed(d, false);
            for (int k = 0; k < cell_.states; ++k) {
                direction.state_in[k] = part(states_[k], d);
                direction.initial[k] = part(initial_[k], d);
                direction.state_out[k] = part(results_[size(k + 1)].data, d);
            }
        }
        const Slices slices(step_flops(request_), [] {});
        drive_forward<T>({kernel().forward, {&call, 1}, {plan_.threads, true}}, slices);
    }

    void backward() {
        Backward<T> call{};
        fill(call);
        call.dy_step = call.y_step;
        call.dy_row = call.y_row;
        const std::vector<T> dy = make("dy", y_items());
        call.y = results_[0].data.data();
        call.dy = dy.data();
        const bool whole = schedule_.row == nullptr;
        const Index dx_items = at_.steps * at_.batch * at_.input;
        const bool both = plan_.split == Split::kDirections && at_.directions > 1;
        T *dx = nullptr, *second = nullptr;
        if (!case_.tokens) {
            dx = second = result("dx", dx_items, whole ? kUnwritten : T(0)).data();
            if (both) {
                second = memory_.emplace_back(dx_items).data();
                std::fill_n(second, dx_items, T(0));
            }
        }
        for (int d = 0; d < at_.directions; ++d) {
            auto& direction = call.direction[d];
            const std::string number = std::to_string(d);
            auto gradient = [&](bool has, const char* name, Index items) -> T* {
                return has ? result(name + number, items, kUnwritten).data() : nullptr;
            };
            direction.dw_ih = gradient(true, "dw_ih", rows() * at_.input);
            direction.dw_hh = gradient(recurrent_, "dw_hh", rows() * at_.hidden);
            direction.db_ih = gradient(true, "db_ih", rows());
            direction.db_hh = gradient(recurrent_, "db_hh", rows());
            direction.dp = gradient(cell_.vectors > 0, "dp", cell_.vectors * at_.hidden);
            direction.pack = packed(d, true);
            direction.saved = saved_ + d * at_.steps * at_.batch * at_.saved_row;
            direction.scratch = memory_.emplace_back(at_.bwd_total).data();
            direction.dx = d > 0 ? second : dx;
            direction.dx_row = at_.input;
            direction.dx_step = at_.batch * at_.input;
            direction.add_dx = d > 0 && !both;
        }
        const std::size_t first = results_.size();
        for (int k = 0; k < cell_.states; ++k)
            result("dstate" + std::to_string(k), state_items(), kUnwritten);
        for (int d = 0; d < at_.directions; ++d)
            for (int k = 0; k < cell_.states; ++k) {
                auto& direction = call.direction[d];
                direction.state_in[k] = part(states_[k], d);
                direction.initial[k] = part(initial_[k], d);
                direction.dstate_out[k] = part(dstates_[k], d);
                direction.dstate_in[k] = part(results_[first + size(k)].data, d);
            }
        const Slices slices(step_flops(request_), [] {});
        drive_backward<T>({kernel().backward, {&call, 1}, {plan_.threads, true}}, slices);
    }

    static constexpr T kUnwritten = std::numeric_limits<T>::quiet_NaN();

    const Case& case_;
    const Table& table_;
    int cell_number_ = -1;
    CellInfo cell_{};
    bool recurrent_ = false;
    Request request_{};
    Plan plan_{};
    Layout at_{};
    std::vector<Weights> weights_;
    std::vector<T> x_, states_[kMaxStates], initial_[kMaxStates], dstates_[kMaxStates];
    std::vector<Index> tokens_;
    std::vector<std::uint8_t> cut_;
    Ranks ranks_;
    Schedule schedule_{};
    std::deque<Scratch<T>> memory_;
    T* saved_ = nullptr;
    std::vector<Result<T>> results_;
};

template <class T>
void add(Sha256& hash, const std::vector<T>& array) {
    for (T x : array) {
        if (std::isnan(x)) x = std::numeric_limits<T>::quiet_NaN();
        hash.add(&x, sizeof x);
    }
}

template <class T>
void print(const Case& c, const Options& options) {
    Sha256 outputs, gradients;
    for (const Result<T>& result : Run<T>(c, options).results()) {
        add(result.name[0] == 'd' ? gradients : outputs, result.data);
        if (options.arrays) {
            Sha256 hash;
            add(hash, result.data);
            std::printf("%s %s %s\n", c.name.c_str(), result.name.c_str(), hash.hex().c_str());
        }
    }
    if (!options.arrays)
        std::printf("%s outputs %s\n%s gradients %s\n", c.name.c_str(), outputs.hex().c_str(),
                    c.name.c_str(), gradients.hex().c_str());
    std::fflush(stdout);
}

std::vector<Case> read_cases(const std::string& path) {
    std::ifstream file(path);
    std::vector<Case> cases;
    for (std::string line; std::getline(file, line);) {
        if (line.empty() || line[0] == '#') continue;
        std::istringstream words(line);
        Case c;
        if (!(words >> c.name >> c.cell >> c.dtype >> c.steps >> c.batch >> c.input >> c.hidden >>
              c.directions >> c.bias >> c.tokens >> c.lengths >> c.reset >> c.activations >>
              c.coupled))
            throw std::invalid_argument(path + ": cannot read '" + line + "'");
        cases.push_back(c);
    }
    if (cases.empty()) throw std::invalid_argument(path + ": no cases");
    return cases;
}

int list_isas() {
    for (const Isa& isa : isas())
        if (isa.supported) std::printf("%s\n", isa.table->isa);
    return 0;
}

int run(int argc, char** argv) {
    if (argc == 2 && std::strcmp(argv[1], "--isas") == 0) return list_isas();
    Options options;
    options.table = &default_isa();
    std::string path;
    std::vector<std::string> wanted;
    for (int i = 1; i < argc; ++i) {
        const std::string word = argv[i], next = i + 1 < argc ? argv[i + 1] : "";
        if (word == "--isa")
            options.table = &find_isa(next), ++i;
        else if (word == "--threads")
            options.threads = std::stoi(next), ++i;
        else if (word == "--split")
            options.split = next == "units"        ? Split::kUnits
                            : next == "directions" ? Split::kDirections
                                                   : Split::kRows,
            ++i;
        else if (word == "--unpacked")
            options.unpacked = true;
        else if (word == "--arrays")
            options.arrays = true;
        else if (path.empty())
            path = word;
        else
            wanted.push_back(word);
    }
    bool any = false;
    for (const Case& c : read_cases(path)) {
        if (!wanted.empty() && std::find(wanted.begin(), wanted.end(), c.name) == wanted.end())
            continue;
        any = true;
        if (c.dtype == "float32")
            print<float>(c, options);
        else
            print<double>(c, options);
    }
    return any ? 0 : 2;
}

}  // namespace

int main(int argc, char** argv) {
    try {
        return run(argc, argv);
    } catch (const std::exception& error) {
        std::fprintf(stderr, "digest: %s\n", error.what());
        return 2;
    }
}
