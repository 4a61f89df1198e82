#include "dispatch.hpp"

#include <cstdlib>
#include <stdexcept>

namespace fusedrnn {

#if defined(__x86_64__)
namespace avx512 {
extern const Table kTable;
}
namespace avx2 {
extern const Table kTable;
}
namespace baseline {
extern const Table kTable;
}

// __builtin_cpu_supports (of libgcc and compiler-rt) asks cpuid and also, by xgetbv, whether the
// operating system saves the wide registers.
const std::vector<Isa>& isas() {
    static const std::vector<Isa> list = [] {
        __builtin_cpu_init();
        const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
        const bool avx512 =
            avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
            __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
        return std::vector<Isa>{
            {&avx512::kTable, avx512}, {&avx2::kTable, avx2}, {&baseline::kTable, true}};
    }();
    return list;
}
#elif defined(__aarch64__)
namespace neon {
extern const Table kTable;
}

const std::vector<Isa>& isas() {
    static const std::vector<Isa> list{{&neon::kTable, true}};
    return list;
}
#else
#error "fusedrnn has kernels for x86-64 and aarch64; build with FUSEDRNN_BUILD=python elsewhere"
#endif

const Table& find_isa(const std::string& name) {
    std::string choices;
    for (const Isa& isa : isas()) {
        if (!isa.supported) continue;
        if (name == isa.table->isa) return *isa.table;
        choices += (choices.empty() ? "" : ", ") + std::string(isa.table->isa);
    }
    throw std::invalid_argument("isa: got '" + name +
                                "', expected one this machine runs: " + choices);
}

const Table& default_isa() {
    if (const char* name = std::getenv("FUSEDRNN_ISA"); name != nullptr && *name != '\0')
        return find_isa(name);
    for (const Isa& isa : isas())
        if (isa.supported) return *isa.table;
    throw std::invalid_argument("isa: this machine runs none of the built instruction sets");
}

}  // namespace fusedrnn
