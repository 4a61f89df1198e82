// Calls with several sets of weights of one layer: the members of an ensemble.
//
// If there are at least as many members as threads, the threads divide the members: each member is
// computed by one thread, so nobody waits for anybody within a step. With fewer members, or with
// one thread, one member follows the other, which uses the caches better, and all threads work on
// each. No bit depends on which of these happens.
#pragma once

#include <deque>

#include "call.hpp"

namespace fusedrnn {

// One member of a call. `arguments` are those of `forward` or `backward`, in their order: `packed`,
// `inputs`, then arrays.
struct Member {
    explicit Member(const py::tuple& arguments)
        : packs(arguments[0].cast<Packs>()), inputs(arguments[1].cast<py::tuple>()) {
        for (std::size_t i = 2; i < arguments.size(); ++i) rest.push_back(py::object(arguments[i]));
    }
    Packs packs;
    py::tuple inputs;
    std::vector<py::object> rest;

    ForwardOut forward_out() const { return {rest.at(0), rest.at(1), rest.at(2)}; }
    BackwardIn backward_in() const {
        return {rest.at(0), rest.at(1), rest.at(2), rest.at(3), rest.at(4), rest.at(5)};
    }
    BackwardOut backward_out(bool dinitial, bool add) const {
        return {rest.at(6), rest.at(7), rest.at(8), dinitial, add};
    }
};

inline std::vector<Member> members_of(const py::list& given) {
    std::vector<Member> out;
    for (const py::handle& one : given) out.emplace_back(one.cast<py::tuple>());
    if (out.empty()) throw py::value_error("packed: expected at least one member");
    return out;
}

// The jobs of the members if one thread computes each. Made and destroyed under the interpreter's
// lock.
template <class T>
class Jobs {
  public:
    Jobs(const std::vector<Member>& members, Walk walk, Index group = 0) {
        for (const Member& one : members) {
            const Job<T>& job = each_.emplace_back(one.packs, one.inputs, walk, Asked{1, 0}, group);
            const Layout &at = job.layout, &first = each_[0].layout;
            if (!job.first.same_layer(each_[0].first) || at.directions != first.directions ||
                at.steps != first.steps || at.batch != first.batch)
                throw py::value_error("packed: all members must be of one layer and one size");
        }
    }

    Job<T>& operator[](std::size_t i) { return each_[i]; }
    TeamSize team(Asked asked) const {
        const auto count = static_cast<Index>(each_.size());
        return {plan_members(each_[0].request, count, most_threads(asked)), asked.exactly > 0};
    }
    // Slices of a walk whose step takes `times` the operations of a forward step.
    Slices slices(TeamSize team, int times) const {
        const auto count = static_cast<int>(each_.size());
        const int turns = (count + team.threads - 1) / team.threads;
        return {step_flops(each_[0].request) * turns * times, poll_signals};
    }

  private:
    std::deque<Job<T>> each_;
};

inline bool divided(const std::vector<Member>& members, Asked asked) {
    const int most = most_threads(asked);
    return most > 1 && static_cast<int>(members.size()) >= most;
}

// The results of each member, as `forward` returns them.
template <class T>
py::list run_forward_ensemble(const std::vector<Member>& members, Walk walk, Asked asked) {
    py::list results;
    if (!divided(members, asked)) {
        for (const Member& one : members) {
            Job<T> job(one.packs, one.inputs, walk, asked);
            results.append(run_forward(job, one.forward_out()));
        }
        return results;
    }
    Jobs<T> jobs(members, walk);
    std::vector<Forward<T>> calls(members.size());
    std::deque<ForwardRun<T>> runs;
    for (std::size_t i = 0; i < members.size(); ++i)
        runs.emplace_back(jobs[i], members[i].forward_out(), calls[i]);
    const TeamSize team = jobs.team(asked);
    int used = 1;
    {
        const py::gil_scoped_release free;
        used = drive_forward<T>({jobs[0].kernel().forward, calls, team},
                                jobs.slices(team, jobs[0].layout.directions));
    }
    for (const ForwardRun<T>& run : runs) results.append(run.results(used));
    return results;
}

template <class T>
py::list run_backward_ensemble(const std::vector<Member>& members, bool dinitial, bool add,
                               Index group, Asked asked) {
    py::list results;
    if (!divided(members, asked)) {
        for (const Member& one : members) {
            Job<T> job(one.packs, one.inputs, Walk::kBackward, asked, group);
            results.append(
                run_backward<T>(job, one.backward_in(), one.backward_out(dinitial, add)));
        }
        return results;
    }
    Jobs<T> jobs(members, Walk::kBackward, group);
    std::vector<Backward<T>> calls(members.size());
    std::deque<BackwardRun<T>> runs;
    for (std::size_t i = 0; i < members.size(); ++i)
        runs.emplace_back(jobs[i], members[i].backward_in(), members[i].backward_out(dinitial, add),
                          calls[i]);
    const TeamSize team = jobs.team(asked);
    int used = 1;
    {
        const py::gil_scoped_release free;
        used = drive_backward<T>({jobs[0].kernel().backward, calls, team}, jobs.slices(team, 3));
        for (BackwardRun<T>& run : runs) run.finish();
    }
    for (const BackwardRun<T>& run : runs) results.append(run.results(used));
    return results;
}

}  // namespace fusedrnn
