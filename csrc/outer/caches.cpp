#include "caches.hpp"

#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <string>

namespace fusedrnn {
namespace {

constexpr Caches kUnknown{1024 * 1024, 32 * 1024 * 1024};

// The size of the unified or data cache of a level in Linux' sysfs; 0 if it is not there.
Index size_in_sysfs(int level) {
    for (int index = 0; index < 8; ++index) {
        const std::string folder =
            "/sys/devices/system/cpu/cpu0/cache/index" + std::to_string(index) + "/";
        auto read = [&](const char* name, const char* format, auto*... out) {
            std::FILE* file = std::fopen((folder + name).c_str(), "r");
            if (file == nullptr) return false;
            const bool found = std::fscanf(file, format, out...) == sizeof...(out);
            std::fclose(file);
            return found;
        };
        int found = 0;
        if (!read("level", "%d", &found)) return 0;
        char type[16] = "", unit = ' ';
        long long size = 0;
        if (found != level || !read("type", "%15s", type) || type[0] == 'I') continue;
        if (!read("size", "%lld%c", &size, &unit) || size <= 0 || size > (1 << 24)) continue;
        return static_cast<Index>(size) * (unit == 'K' ? 1024 : unit == 'M' ? 1024 * 1024 : 1);
    }
    return 0;
}

Index asked([[maybe_unused]] int level) {
    if (const Index size = size_in_sysfs(level); size > 0) return size;
#if defined(_SC_LEVEL2_CACHE_SIZE) && defined(_SC_LEVEL3_CACHE_SIZE)
    return sysconf(level == 2 ? _SC_LEVEL2_CACHE_SIZE : _SC_LEVEL3_CACHE_SIZE);
#else
    return 0;
#endif
}

std::atomic<Index> chosen_l2{0}, chosen_l3{0};

}  // namespace

Caches caches() {
    static const Caches machine = [] {
        const Index l2 = asked(2), l3 = asked(3);
        return Caches{l2 > 0 ? l2 : kUnknown.l2, l3 > 0 ? l3 : kUnknown.l3};
    }();
    const Index l2 = chosen_l2, l3 = chosen_l3;
    return {l2 > 0 ? l2 : machine.l2, l3 > 0 ? l3 : machine.l3};
}

void use_caches(Caches sizes) {
    chosen_l2 = sizes.l2;
    chosen_l3 = sizes.l3;
}

}  // namespace fusedrnn
