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

// Best first.
const std::vector<Isa>& isas();

// The table of a supported ISA; throws std::invalid_argument that names the choices.
const Table& find_isa(const std::string& name);

// FUSEDRNN_ISA where the environment has it, else the best supported one.
const Table& default_isa();

}  // namespace fusedrnn
