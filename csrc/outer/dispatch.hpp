// Which instruction sets were built, which of them this machine runs, and which one is chosen.
#pragma once

#include <string>
#include <vector>

#include "kernels.hpp"

namespace fusedrnn {

struct Isa {
    const Table* table;
    bool supported;  // by the processor and by the operating system
};

// The instruction sets that were built, best first.
const std::vector<Isa>& isas();

// The table of a supported instruction set; else throws std::invalid_argument that names them.
const Table& find_isa(const std::string& name);

// The instruction set that the environment variable FUSEDRNN_ISA names, else the best supported
// one.
const Table& default_isa();

}  // namespace fusedrnn
