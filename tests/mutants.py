"""Planted faults, each with the test that must kill it; long because each fault is data.

    python tests/mutants.py              all of them, a table, status 0 if every one was killed
    python tests/mutants.py NAME...      these

Works in a copy of the tree, in one build folder that lives for the run: C++ is compiled without
much optimisation (no bit depends on it) and only where a fault touched it. A fault of the kernels
is planted in the best instruction set of the machine alone, which the tests take first. Needs what
the extras `test` and `dev` install.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("csrc", "python", "tests", "docs")
FILES = ("CMakeLists.txt", "pyproject.toml")
# Killing a test that hangs is killing the fault; honest runs take seconds.
TIMEOUT = 120


@dataclass(frozen=True)
class Mutant:
    """One fault: in `file`, `old` becomes `new` (white space counts as one blank)."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]  # arguments of pytest

    @property
    def pattern(self) -> re.Pattern[str]:
        return re.compile(r"\s+".join(map(re.escape, self.old.split())))

    def occurrences(self, root: Path) -> int:
        return len(self.pattern.findall((root / self.file).read_text()))

    def planted(self, root: Path) -> str:
        return self.pattern.sub(lambda _: self.new, (root / self.file).read_text(), count=1)


def any_call() -> tuple[str, ...]:
    return ("tests/test_parity.py::test_any_call",)


def killer(file: str, function: str, select: str = "") -> tuple[str, ...]:
    return (f"tests/test_{file}.py::test_{function}", *(("-k", select) if select else ()))


PYTHON = (
    Mutant(
        "reference: GRU without r",
        "python/fusedrnn/_reference_cells.py",
        "n = np.tanh(nx + r * nh)",
        "n = np.tanh(nx + nh)",
        killer("forward", "shapes", "reference and gru"),
    ),
    Mutant(
        "reference: dc without f",
        "python/fusedrnn/_reference_cells.py",
        "dc = dc * f",
        "dc = dc * 1",
        killer("gradients", "shapes", "reference and lstm"),
    ),
    Mutant(
        "reference: GRU's dR_n without r",
        "python/fusedrnn/_reference_cells.py",
        "np.stack((dn, dr, dz, dn * r))",
        "np.stack((dn, dr, dz, dn))",
        killer("gradients", "shapes", "reference and gru"),
    ),
    Mutant(
        "reference: gradient crosses a reset",
        "python/fusedrnn/_reference.py",
        "value[call.cut(s, rows)] = 0",
        "value[call.cut(s, rows)] *= 1",
        killer("gradients", "options", "reference and reset"),
    ),
    Mutant(
        "reference: reverse direction cut one step off",
        "python/fusedrnn/_walk.py",
        "low, high = here, came",
        "low, high = here - 1, came - 1",
        killer("forward", "options", "reference and reset"),
    ),
    Mutant(
        "reference: late slots see h",
        "python/fusedrnn/_reference.py",
        "da_ht[slots.late :] @ (gate * u)",
        "da_ht[slots.late :] @ u",
        killer("gradients", "shapes", "reference and reset_before"),
    ),
    Mutant(
        "reference: the gradient through LN without its slope",
        "python/fusedrnn/_reference_norm.py",
        "(d - mean - value * slope) * scale",
        "(d - mean) * scale",
        killer("gradients", "shapes", "reference and norm"),
    ),
    Mutant(
        "the gains of W x and of R h swapped",
        "python/fusedrnn/_native.py",
        "given = (w.norm_ih, w.norm_hh, w.norm_c",
        "given = (w.norm_hh, w.norm_ih, w.norm_c",
        killer("norm", "sizes_around_the_vectors", "native"),
    ),
    Mutant(
        "a check removed",
        "python/fusedrnn/_check.py",
        "if a.shape != shape:",
        "if False:",
        killer("check", "texts"),
    ),
    Mutant(
        "an error text changed",
        "python/fusedrnn/_check.py",
        'f"{function}: {name}: expected shape {shape}, got {value.shape}"',
        'f"{function}: {name}: wrong shape"',
        killer("check", "texts"),
    ),
    Mutant(
        "one pack for all instruction sets",
        "python/fusedrnn/_native.py",
        "pack: Array | None = cache.get((isa, backward))",
        "pack: Array | None = next((a for k, a in cache.items() if k[1] == backward), None)",
        killer("invariance", "packs_are_per_instruction_set"),
    ),
    Mutant(
        "quick steps of a stack do not go back",
        "python/fusedrnn/_steps.py",
        "self._back(done) raise",
        "raise",
        killer("quick_steps", "an_interrupted_stack_goes_back"),
    ),
    Mutant(
        "quick steps outlive a change of the parameters",
        "python/fusedrnn/_steps.py",
        "return self._key == _made_for(layer, num_threads)",
        "return self._key[:4] == _made_for(layer, num_threads)[:4]",
        killer("quick_steps", "it_follows_every_choice"),
    ),
    Mutant(
        "last_path invents the threads",
        "python/fusedrnn/_native.py",
        "record(self.name, target, fixed.kernel, threads)\n        if not save:",
        "record(self.name, target, fixed.kernel, 1)\n        if not save:",
        killer("invariance", "threads", "lstm and rows and float32"),
    ),
)

LAYERS = (
    Mutant(
        "a stack's states by direction, then layer",
        "python/fusedrnn/_state.py",
        "found = [whole[i * n : (i + 1) * n] for i in range(layers)]",
        "found = [whole[i::layers] for i in range(layers)]",
        killer("stack", "chained_by_hand", "reference and lstm and True"),
    ),
    Mutant(
        "a stack's later layers take the first one's initial",
        "python/fusedrnn/_stack.py",
        "call = call._replace(initial=initial[k])",
        "call = call._replace(initial=initial[0])",
        killer("stack", "chained_by_hand", "reference and lstm"),
    ),
    Mutant(
        "only the first layer knows the lengths",
        "python/fusedrnn/_stack.py",
        "call._replace(x=inputs.time_major(y), tokens=None)",
        "call._replace(x=inputs.time_major(y), tokens=None, lengths=None)",
        killer("padding", "each_sequence_alone", "gru and lengths"),
    ),
    Mutant(
        "reference: directions change places in y",
        "python/fusedrnn/_reference.py",
        "y[:, :, d * out : (d + 1) * out]",
        "y[:, :, (len(weights) - 1 - d) * out : (len(weights) - d) * out]",
        killer("stack", "two_directions", "reference"),
    ),
    Mutant(
        "repeated outputs come from the next step",
        "python/fusedrnn/_outside.py",
        "source = _sources(valid, d == 1) shown",
        "source = _sources(valid, d == 0)\n        shown",
        killer("padding", "forward"),
    ),
    Mutant(
        "the gradient of repeated outputs is forgotten",
        "python/fusedrnn/_outside.py",
        "np.add.at(total, (source[t, b], b), half[t, b])",
        "",
        killer("padding", "gradients", "reference and repeat"),
    ),
    Mutant(
        "one repeated output of several has its gradient",
        "python/fusedrnn/_outside.py",
        "np.add.at(total, (source[t, b], b), half[t, b])",
        "total[source[t, b], b] += half[t, b]",
        killer("padding", "gradients", "reference and repeat"),
    ),
    Mutant(
        "what forward saves shares the caller's states",
        "python/fusedrnn/_layer.py",
        "first, cut = self._states(state, initial, reset, rows, copy=True)",
        "first, cut = self._states(state, initial, reset, rows)",
        killer("chunks", "what_forward_was_given_may_change"),
    ),
    Mutant(
        "what forward saves shares the caller's mask",
        "python/fusedrnn/_check_options.py",
        "return _check.contiguous(a, np.dtype(bool), copy=copy)",
        "return _check.contiguous(a, np.dtype(bool))",
        killer("chunks", "what_forward_was_given_may_change", "mask"),
    ),
    Mutant(
        "padding's value where it is 0 alone",
        "python/fusedrnn/_layer.py",
        "if inputs.mask is not None or how.value != 0:",
        "if inputs.mask is not None:",
        killer("padding", "forward"),
    ),
    Mutant(
        "a stream's resets start from zeros",
        "python/fusedrnn/stream.py",
        "cut = self.layer._initial(initial, reset, rows.batch if rows.batched else None)",
        "cut = None",
        killer("chunks", "streams", "reference"),
    ),
    Mutant(
        "a stream's steps know no zoneout",
        "python/fusedrnn/stream.py",
        "inputs = Inputs(a.reshape(1, batch, layer.input_size), zoneout=layer._zoneout)",
        "inputs = Inputs(a.reshape(1, batch, layer.input_size))",
        killer("stack", "prefixes_and_streams", "reference"),
    ),
    Mutant(
        "reference: a plain call has no zoneout",
        "python/fusedrnn/_reference_call.py",
        "return rates[k] if keep is None else",
        "return None if keep is None else",
        killer("noise", "forward", "reference and zoneout"),
    ),
    Mutant(
        "dropout on the last layer",
        "python/fusedrnn/_noise.py",
        "output = None if last else factors(",
        "output = factors(",
        killer("noise", "forward", "reference and gru"),
    ),
    Mutant(
        "dropout is not scaled",
        "python/fusedrnn/_noise.py",
        "kept.astype(w.dtype) / w.dtype.type(1 - rate)",
        "kept.astype(w.dtype)",
        killer("noise", "statistics"),
    ),
    Mutant(
        "dropout's mask is forgotten on the way back",
        "python/fusedrnn/_stack.py",
        "dy = masked(dy, saved.inputs.time_major(drawn.output))",
        "pass",
        killer("noise", "gradients", "reference and gru and dropout"),
    ),
    Mutant(
        "DropConnect's mask is forgotten on the way back",
        "python/fusedrnn/_stack.py",
        "directions = connected_back(directions, drawn)",
        "pass",
        killer("noise", "drop_connect_masks_its_gradient", "reference"),
    ),
    Mutant(
        "each dtype draws its own masks",
        "python/fusedrnn/_noise.py",
        "kept: Array = rng.random(shape, dtype=np.float32) >= np.float32(rate)",
        "kept: Array = rng.random(shape, dtype=w.dtype) >= np.float32(rate)",
        killer("noise", "a_seed_decides", "reference"),
    ),
    Mutant(
        "masks as the call is laid out",
        "python/fusedrnn/_stack.py",
        "y = masked(y, inputs.time_major(drawn.output))",
        "y = masked(y, drawn.output.reshape(y.shape))",
        killer("noise", "a_seed_decides", "reference"),
    ),
    Mutant(
        "tokens under input dropout have a gradient",
        "python/fusedrnn/_layer.py",
        "if saved._of_tokens:",
        "if False:",
        killer("noise", "tokens", "reference"),
    ),
    Mutant(
        "each sequence's gradient is another's",
        "python/fusedrnn/_stack.py",
        "alone = np.arange(batch) == b",
        "alone = np.arange(batch) == batch - 1 - b",
        killer("per_sample", "per_sample", "reference and gru"),
    ),
    Mutant(
        "cells are a view of what is saved",
        "python/fusedrnn/_inside.py",
        "joined = np.concatenate(list(a), axis=2)",
        "joined = np.moveaxis(a, 0, 2).reshape(*a.shape[1:3], -1)",
        killer("inside", "what_is_shown_is_the_callers"),
    ),
    Mutant(
        "gradients of gates in the other direction",
        "python/fusedrnn/_inside.py",
        "return np.ascontiguousarray(np.moveaxis(apart, 2, 0))",
        "return np.ascontiguousarray(np.moveaxis(apart, 2, 0)[::-1])",
        killer("inside", "gradients", "reference and gru"),
    ),
    Mutant(
        "the forget bias twice",
        "python/fusedrnn/_layer.py",
        "gate[:] = value if k == 0 else 0",
        "gate[:] = value",
        killer("options_of_cells", "forget_bias"),
    ),
    Mutant(
        "no clip beside the usual activations",
        "python/fusedrnn/layers.py",
        "if activations == plain and bound == np.inf and not coupled:",
        "if activations == plain and not coupled:",
        killer("options_of_cells", "options", "reference"),
    ),
)

ADAPTERS = (
    Mutant(
        "onnx: the other branch of If",
        "python/fusedrnn/onnx/_control.py",
        'self._bodies[bool(self._scalar("cond", arguments[0]))]',
        'self._bodies[not self._scalar("cond", arguments[0])]',
        killer("onnx_bodies", "recurrent_nodes_in_branches"),
    ),
    Mutant(
        "onnx: a loop joins what it should stack",
        "python/fusedrnn/onnx/_control.py",
        "return np.stack(rows, axis)",
        "return np.vstack(rows)",
        killer("onnx_bodies", "loops_that_stop"),
    ),
    Mutant(
        "onnx: an output is let go before the end",
        "python/fusedrnn/onnx/_graph.py",
        "seen = set(self.outputs)",
        "seen: set[str] = set()",
        killer("onnx_bodies", "recurrent_nodes_in_branches"),
    ),
    Mutant(
        "onnx: random numbers are constants",
        "python/fusedrnn/onnx/_plain.py",
        "proto.op_type not in _protos.RANDOM",
        "True",
        killer("onnx_bodies", "random_nodes_are_not_constants"),
    ),
    Mutant(
        "onnx: 16 bits stay wide",
        "python/fusedrnn/onnx/_node.py",
        "np.ascontiguousarray(a, packed.dtype)",
        "np.ascontiguousarray(a)",
        killer("onnx_bodies", "models_of_16_bits_are_widened", "float16"),
    ),
    Mutant(
        "onnx: the old softmax is today's",
        "python/fusedrnn/onnx/_mended.py",
        '"Softmax": (13, _softmax)',
        '"Softmax": (1, _softmax)',
        killer("onnx_operators", "oldest_and_newest", "Softmax"),
    ),
    Mutant(
        "onnx: Gemm adds C once too little",
        "python/fusedrnn/onnx/_product.py",
        "(self._alpha, self._beta) != (1.0, 1.0)",
        "self._alpha != 1.0",
        killer("onnx_operators", "oldest_and_newest", "Gemm"),
    ),
    Mutant(
        "onnx: a function's default before what the call says",
        "python/fusedrnn/_protos.py",
        "function.attribute_proto} | {a.name: a for a in call.attribute}",
        "call.attribute} | {a.name: a for a in function.attribute_proto}",
        killer("onnx_bodies", "functions_of_the_model"),
    ),
    Mutant(
        "onnx_layers: a body does not see the names around it",
        "python/fusedrnn/weights/_onnx.py",
        "self._around = outer if arguments is None else None",
        "self._around = None",
        killer("onnx_layers", "nodes_inside_others_have_a_path"),
    ),
    Mutant(
        "onnx.export: lengths are an input that nobody reads",
        "python/fusedrnn/onnx/_export.py",
        'tensors.get("B", ""), self._lengths]',
        'tensors.get("B", ""), ""]',
        killer("onnx_export", "a_part_of_the_grid"),
    ),
    Mutant(
        "onnx.export: the one bias is twice there",
        "python/fusedrnn/onnx/_export.py",
        "zeros = np.zeros_like(biases[0])",
        "zeros = biases[0]",
        killer("onnx_export", "a_part_of_the_grid"),
    ),
    Mutant(
        "weights.from_gates: z as the others have it",
        "python/fusedrnn/weights/_directions.py",
        'return ours("from_gates", [_kept(blocks, z_keeps_old)]',
        'return ours("from_gates", [_kept(blocks, True)]',
        killer("weights", "by_hand", "gates"),
    ),
)

OUTER = (
    Mutant(
        "length off by one",
        "csrc/outer/drive.hpp",
        "for (Index s = 0; s < length[r]; ++s)",
        "for (Index s = 0; s + 1 < length[r]; ++s)",
        killer("invariance", "padding", "rnn_tanh"),
    ),
    Mutant(
        "ranks by rising length",
        "csrc/outer/drive.hpp",
        "return length[a] > length[b];",
        "return length[a] < length[b];",
        killer("invariance", "padding", "rnn_tanh"),
    ),
    Mutant(
        "signals not polled",
        "csrc/outer/drive.hpp",
        "poll_();",
        "",
        killer("process", "ctrl_c", "forward-1"),
    ),
    Mutant(
        "the GIL is kept",
        "csrc/bind/call.hpp",
        "const py::gil_scoped_release free; const Slices slices(step_flops(job.request) * at.dir",
        "const Slices slices(step_flops(job.request) * at.dir",
        killer("process", "the_gil_is_released", "forward"),
    ),
    Mutant(
        "padding of dx is not zero",
        "csrc/bind/call.hpp",
        "std::memset(array.mutable_data(), 0,",
        "std::memset(array.mutable_data(), 255,",
        killer("invariance", "padding", "rnn_tanh"),
    ),
    Mutant(
        "a token out of range is read",
        "csrc/bind/job.hpp",
        "return t >= 0 && t < layout.input;",
        "return t >= 0;",
        killer("robustness", "core_verifies_values"),
    ),
    Mutant(
        "a negative length is taken",
        "csrc/bind/job.hpp",
        "return n >= 0 && n <= steps;",
        "return n <= steps;",
        killer("robustness", "core_verifies_values"),
    ),
    Mutant(
        "strided arrays are read as if contiguous",
        "csrc/bind/arrays.hpp",
        "(array.flags() & (kContiguous | kAligned)) != (kContiguous | kAligned)",
        "(array.flags() & kAligned) != kAligned",
        killer("robustness", "core_verifies_arrays"),
    ),
    Mutant(
        "an overflow of sizes is not seen",
        "csrc/outer/layout.cpp",
        "ok_ = !__builtin_mul_overflow(a, b, &c) && ok_;",
        "c = static_cast<Index>(static_cast<std::size_t>(a) * static_cast<std::size_t>(b));",
        killer("robustness", "sizes_that_overflow"),
    ),
    Mutant(
        "partial sums of other steps",
        "csrc/outer/layout.cpp",
        "out.partial_steps = std::max<Index>(1, kPartialRows / std::max<Index>(1, B));",
        "out.partial_steps = std::max<Index>(1, kPartialRows / 2 / std::max<Index>(1, B));",
        killer("rounding", "every_rounding", "rnn_tanh or gru"),
    ),
    Mutant(
        "rows to be normalised are divided",
        "csrc/outer/layout.cpp",
        "|| !recurrent || call.cell.norm)",
        "|| !recurrent)",
        killer("norm", "few_rows_are_not_divided"),
    ),
    Mutant(
        "flush-to-zero is not restored",
        "csrc/outer/team.cpp",
        "set_control(before);",
        "",
        killer("robustness", "the_control_word_is_restored"),
    ),
    Mutant(
        "flush-to-zero is not set",
        "csrc/outer/team.cpp",
        "set_control(before | kFlush);",
        "",
        killer("robustness", "denormals_are_flushed"),
    ),
    Mutant(
        "quick steps stay where they are",
        "csrc/bind/step.hpp",
        "now_ = 1 - now_; return used;",
        "return used;",
        killer("quick_steps", "the_bits_of_one_call", "lstm-float32"),
    ),
    Mutant(
        "quick steps write where they may not",
        "csrc/bind/step.hpp",
        "|| !y.writeable())",
        ")",
        killer("quick_steps", "core_verifies_steps"),
    ),
    Mutant(
        "teams never give way",
        "csrc/outer/team.cpp",
        "if (3 * used > 2 * all) {",
        "if (used > 0) {",
        killer("process", "teams_give_way"),
    ),
    Mutant(
        "no guard after fork",
        "csrc/outer/team.cpp",
        "if (team.threads > 1 && !forked &&",
        "if (team.threads > 1 &&",
        killer("process", "fork"),
    ),
    Mutant(
        "the barrier tires of waiting",
        "csrc/outer/team.cpp",
        "__atomic_load_n(&b.phase, __ATOMIC_ACQUIRE) == phase; ++tries",
        "tries < 2 && __atomic_load_n(&b.phase, __ATOMIC_ACQUIRE) == phase; ++tries",
        killer("invariance", "every_barrier_holds"),
    ),
    Mutant(
        "FUSEDRNN_ISA is not read",
        "csrc/outer/dispatch.cpp",
        'std::getenv("FUSEDRNN_ISA")',
        'std::getenv("FUSEDRNN_ISA_")',
        killer("runtime", "environment_isa_and_threads"),
    ),
)

INNER = (
    Mutant(
        "LSTM: i and f swapped",
        "csrc/inner/cells/lstm.hpp",
        "return fma(a[1], c, a[0] * a[2]);",
        "return fma(a[0], c, a[1] * a[2]);",
        killer("forward", "shapes", "native and lstm"),
    ),
    Mutant(
        "LSTM: dc of the step after dropped",
        "csrc/inner/cells/lstm.hpp",
        "cell_path(a, prev[1], fma(ds[0] * a[3], dtanh(t), ds[1]), ds, da);",
        "cell_path(a, prev[1], ds[0] * a[3] * dtanh(t), ds, da);",
        killer("gradients", "shapes", "native and lstm"),
    ),
    Mutant(
        "peephole of o on the old cell state",
        "csrc/inner/cells/lstm.hpp",
        "s[1] = renew(a, s[1], by); a[3] = sigmoid(fma(p[2], s[1], a[3]));",
        "a[3] = sigmoid(fma(p[2], s[1], a[3])); s[1] = renew(a, s[1], by);",
        killer("forward", "shapes", "native and lstm_peephole"),
    ),
    Mutant(
        "peephole gradient of f on the new cell state",
        "csrc/inner/cells/lstm.hpp",
        "sum[1] = fma(da[1], prev[1], sum[1]);",
        "sum[1] = fma(da[1], next[1], sum[1]);",
        killer("gradients", "shapes", "native and lstm_peephole"),
    ),
    Mutant(
        "GRU: dR_n without r",
        "csrc/inner/cells/gru.hpp",
        "da[3] = dn * a[1];",
        "da[3] = dn;",
        killer("gradients", "shapes", "native and gru"),
    ),
    Mutant(
        "GRU: z for 1 - z",
        "csrc/inner/cells/gru.hpp",
        "s[0] = fma(a[2], s[0] - a[0], a[0]);",
        "s[0] = fma(a[2], a[0] - s[0], s[0]);",
        killer("forward", "shapes", "native and gru"),
    ),
    Mutant(
        "LN: the variance is not about the mean",
        "csrc/inner/norm.hpp",
        "load(row + slot_at<T>(unit, 0, slots)) - splat(mean); return d * d;",
        "load(row + slot_at<T>(unit, 0, slots)); return d * d;",
        killer("norm", "sizes_around_the_vectors"),
    ),
    Mutant(
        "LN: lanes past the last unit count",
        "csrc/inner/norm.hpp",
        "first_lanes(of(unit), static_cast<int>(hidden - unit))",
        "of(unit)",
        killer("norm", "sizes_around_the_vectors"),
    ),
    Mutant(
        "LN: partial sums folded in another order",
        "csrc/inner/norm.hpp",
        "part[i] = part[i] + part[i + half];",
        "part[i] = part[2 * i] + part[2 * i + 1];",
        killer("rounding", "every_rounding", "norm"),
    ),
    Mutant(
        "LN: the gradient without its slope",
        "csrc/inner/norm.hpp",
        "fma(value(unit), splat(-slope), from(unit) - splat(mean))",
        "(from(unit) - splat(mean))",
        killer("gradients", "shapes", "native and norm"),
    ),
    Mutant(
        "directions: threads of one take each other's rows",
        "csrc/inner/scan/norm_forward.hpp",
        "Scan(forward, d, thread / 2, (threads + 1 - d) / 2).run();",
        "Scan(forward, d, thread / 2, threads).run();",
        killer("invariance", "directions_at_the_same_time"),
    ),
    Mutant(
        "normalised LSTM: gc dropped",
        "csrc/inner/scan/norm_forward.hpp",
        "const V m = fma(load(last + unit), by.of(now), load(last + at_.padded + unit));",
        "const V m = by.of(now) + load(last + at_.padded + unit);",
        killer("forward", "shapes", "native and lstm_norm"),
    ),
    Mutant(
        "normalised LSTM: c' carried on normalised",
        "csrc/inner/scan/norm_forward.hpp",
        "zoned(1, s, r, unit, now, load(cell + unit))",
        "zoned(1, s, r, unit, by.of(now), load(cell + unit))",
        killer("norm", "the_cell_state_is_not_normalised"),
    ),
    Mutant(
        "normalised cells: gradients of gains of the unnormalised sums",
        "csrc/inner/scan/norm_backward.hpp",
        "d[k] * norm.value(unit, slot)",
        "d[k]",
        killer("gradients", "shapes", "native and norm"),
    ),
    Mutant(
        "relu of NaN is 0",
        "csrc/inner/simd.hpp",
        "return max(x, V{});",
        "return max(V{}, x);",
        killer("forward", "nan_stays_in_its_sequence", "relu"),
    ),
    Mutant(
        "a product and a sum for an fma",
        "csrc/inner/simd.hpp",
        "FUSEDRNN_MM(fmadd_ps)(a, b, c)",
        "(a * b + c)",
        killer("rounding", "every_rounding", "rnn_identity"),
    ),
    Mutant(
        "an off constant of exp",
        "csrc/inner/math.hpp",
        "0x1.5554b2p-3F",
        "0x1.5564b2p-3F",
        killer("math", "ulps", "float32"),
    ),
    Mutant(
        "tanh is 1 too early",
        "csrc/inner/math.hpp",
        "tanh_is_one = 9.5F",
        "tanh_is_one = 7.5F",
        killer("math", "ulps", "float32"),
    ),
    Mutant(
        "b_hh skipped",
        "csrc/inner/pack.hpp",
        "unit % kLanes<T>] = x + h;",
        "unit % kLanes<T>] = x;",
        any_call(),
    ),
    Mutant(
        "the last lane of a tail dropped",
        "csrc/inner/scan/rows.hpp",
        "store_n(to, v, n);",
        "store_n(to, v, n - 1);",
        any_call(),
    ),
    Mutant(
        "reverse time from the end of the padding",
        "csrc/inner/scan/rows.hpp",
        "return reverse_ ? length(r) - 1 - s : s;",
        "return reverse_ ? call_.layout.steps - 1 - s : s;",
        killer("invariance", "two_directions", "lengths and rnn_tanh"),
    ),
    Mutant(
        "rows between two threads skipped",
        "csrc/inner/scan/rows.hpp",
        "end(n * (thread + 1) / threads)",
        "end(n * (thread + 1) / threads - (thread == 1 && threads == 3 ? 1 : 0))",
        killer("invariance", "threads", "rnn_tanh and rows"),
    ),
    Mutant(
        "a reset is missed on the way forward",
        "csrc/inner/scan/forward_view.hpp",
        "rows_.cut(s + 1, r)}",
        "rows_.cut(s + 1, r) && false}",
        killer("forward", "options", "native and reset"),
    ),
    Mutant(
        "a reset lets the gradient through",
        "csrc/inner/scan/backward.hpp",
        "if (came && rows_.cut(s + 1, r)) chain = V{};",
        "",
        killer("gradients", "options", "native and reset"),
    ),
    Mutant(
        "the carried gradient is not added to dy",
        "csrc/inner/scan/backward.hpp",
        "chain = chain + take(call_.dy",
        "chain = take(call_.dy",
        killer("gradients", "shapes", "native and rnn_tanh"),
    ),
    Mutant(
        "two rows of the epilogue change places",
        "csrc/inner/twin.hpp",
        "return which == 0 ? x.a : x.b;",
        "return which == 0 ? x.b : x.a;",
        killer("forward", "shapes", "native"),
    ),
    Mutant(
        "slots that share vectors lie a lane apart",
        "csrc/inner/scan/epilogue.hpp",
        "return load(acc + w * next_acc + (i * G + k) * by);",
        "return load(acc + w * next_acc + (i * G + k) * by + (by < L ? k : 0));",
        killer("forward", "shapes", "native"),
    ),
    Mutant(
        "a sweep back leaves a panel out",
        "csrc/inner/scan/forward.hpp",
        "(back ? groups - 1 - g : g) * most",
        "(back ? groups - 1 : g) * most",
        killer("forward", "shapes", "native"),
    ),
    Mutant(
        "the late phase reads h for r h",
        "csrc/inner/scan/forward.hpp",
        "const Operand<T> a{u(r), at_.state_row, 1, at_.hidden}; Place",
        "const Operand<T> a{h(s, r), at_.state_row, 1, at_.hidden}; Place",
        killer("forward", "shapes", "native and reset_before"),
    ),
    Mutant(
        "no barrier after a step",
        "csrc/inner/scan/forward.hpp",
        "if constexpr (recurrent(kCell)) wait();",
        "",
        killer("invariance", "every_barrier_holds"),
    ),
    Mutant(
        "no barrier before the late phase",
        "csrc/inner/scan/forward.hpp",
        "wait(); each_group(s, [&](Index r, Index n) { late_phase",
        "each_group(s, [&](Index r, Index n) { late_phase",
        killer("invariance", "every_barrier_holds", "reset_before"),
    ),
    Mutant(
        "every slice starts from the first state",
        "csrc/inner/scan/forward.hpp",
        "if (call_.begin == 0) enter();",
        "enter();",
        killer("invariance", "slices", "lstm"),
    ),
    Mutant(
        "dR of the wrong slots",
        "csrc/inner/scan/reduce.hpp",
        "at_.out_row, n, p, HF, kEarly, at_.output,",
        "at_.out_row, n, p, 0, kEarly - HF, at_.output,",
        killer("gradients", "shapes", "native and gru"),
    ),
    Mutant(
        "dx of the second direction replaces the first",
        "csrc/inner/scan/reduce.hpp",
        "if (dir_.add_dx) sum = take(dx + v, real) + sum;",
        "",
        killer("invariance", "two_directions", "rnn_tanh"),
    ),
    Mutant(
        "a token's repetitions counted once each and again",
        "csrc/inner/scan/reduce.hpp",
        "follows[q] = i >= 0;",
        "follows[q] = false;",
        killer("invariance", "tokens_are_one_hot_rows", "rnn_tanh"),
    ),
    Mutant(
        "products read what another thread has yet to gather",
        "csrc/inner/scan/reduce.hpp",
        "if (call_.barrier.wait != nullptr) call_.barrier.wait(call_.barrier.self);",
        "",
        killer("invariance", "threads", "rows"),
    ),
    Mutant(
        "a block of steps does not hand on its first",
        "csrc/inner/scan/reduce.hpp",
        "copy(da(call_.block, r), front + r * at_.gate_row, at_.gate_row);",
        "copy(da(call_.block, r), front + r * at_.gate_row, 0);",
        killer("rounding", "every_rounding", "rnn_tanh"),
    ),
)

# In this order each kind is compiled once on top of honest objects of the others.
MUTANTS = (*PYTHON, *LAYERS, *ADAPTERS, *OUTER, *INNER)


class Workshop:
    """A copy of the tree with its own build."""

    def __init__(self, folder: Path) -> None:
        self.tree, self.build = folder / "tree", folder / "build"
        ignored = shutil.ignore_patterns("__pycache__", "_core*.so", "_core*.pyd", "_build.py")
        for name in FOLDERS:
            shutil.copytree(ROOT / name, self.tree / name, ignore=ignored)
        for name in FILES:
            shutil.copy2(ROOT / name, self.tree / name)
        # The tools of this environment first, whether or not it is activated.
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        kept = {k: v for k, v in os.environ.items() if not k.startswith("FUSEDRNN_")}
        self.environment = kept | {
            "PATH": path,
            "PYTHONPATH": str(self.tree / "python"),
            "FUSEDRNN_BUILD": "native",
            "FUSEDRNN_WERROR": "OFF",
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def run(self, *command: str, timeout: float | None = None) -> tuple[int, str]:
        """Exit status (-SIGKILL if it took too long) and output of a command in the tree."""
        process = subprocess.Popen(
            command,
            cwd=self.tree,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            text = process.communicate(timeout=timeout)[0]
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            text = process.communicate()[0]
        return process.returncode, text

    def must(self, *command: str) -> None:
        status, text = self.run(*command)
        if status != 0:
            sys.exit(f"{text}\nmutants: {' '.join(command)} failed")

    def configure(self) -> None:
        found = shutil.which("ninja", path=self.environment["PATH"])
        self.must(
            *("cmake", "-S", str(self.tree), "-B", str(self.build)),
            *(("-G", "Ninja") if found else ()),
            *("-D", f"Python_EXECUTABLE={sys.executable}"),
            *("-D", "CMAKE_BUILD_TYPE=Debug", "-D", "CMAKE_CXX_FLAGS_DEBUG=-O1"),
        )

    def compile(self) -> bool:
        return self.run("cmake", "--build", str(self.build), "--parallel")[0] == 0

    def best_isa(self) -> str:
        show = "import fusedrnn; print(fusedrnn.supported_isas()[0], fusedrnn.__file__)"
        _, text = self.run(sys.executable, "-c", show)
        isa, file = text.split()
        if not file.startswith(str(self.tree)):
            sys.exit(f"mutants: Python takes fusedrnn from {file}, not from the copy")
        return isa

    @contextmanager
    def planted(self, mutant: Mutant, isa: str) -> Iterator[bool]:
        """The tree with a fault; whether it compiles."""
        path = self.tree / mutant.file
        honest, stat = path.read_text(), path.stat()
        path.write_text(mutant.planted(self.tree))
        if mutant in INNER:  # as the time stamps have it nothing changed, but an object is missing
            os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
            built = self.build / f"CMakeFiles/isa_{isa}.dir/csrc/inner/isa/{isa}.cpp.o"
            built.unlink(missing_ok=True)
        yield self.compile() if mutant.file.startswith("csrc/") else True
        path.write_text(honest)
        if mutant in INNER:
            os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))

    def test(self, tests: tuple[str, ...]) -> tuple[int, str]:
        pytest = (sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider")
        return self.run(*pytest, *tests, timeout=TIMEOUT)


def verdict(status: int, text: str) -> tuple[bool, str]:
    """Whether the fault was killed, and by what."""
    if status == 0:
        return False, "SURVIVED"
    failed = re.search(r"^(?:FAILED|ERROR) \S*?::(\S+)", text, re.M)
    if status == 1 and failed:
        return True, failed[1]
    if status == -signal.SIGKILL:
        return True, f"no end within {TIMEOUT} s"
    if status < 0:
        return True, signal.Signals(-status).name
    return False, f"NO TEST RAN (pytest: {status})"


def main(names: list[str]) -> int:
    chosen = [m for m in MUTANTS if not names or m.name in names]
    if unknown := set(names) - {m.name for m in chosen}:
        sys.exit(f"mutants: no such fault: {', '.join(sorted(unknown))}")
    with tempfile.TemporaryDirectory(prefix="fusedrnn-mutants-") as folder:
        shop = Workshop(Path(folder))
        shop.configure()
        if not shop.compile():
            sys.exit("mutants: the tree does not compile even without a fault")
        best = shop.best_isa()
        for tests in dict.fromkeys(m.tests for m in chosen):
            status, text = shop.test(tests)
            if status != 0:
                sys.exit(f"{text}\nmutants: {' '.join(tests)} fails without any fault")
        print(f"{len(chosen)} faults; every test named passes without them", flush=True)
        killed = 0
        for mutant in chosen:
            start = time.monotonic()
            dead, by = False, "DOES NOT COMPILE"
            with shop.planted(mutant, best) as compiles:
                if compiles:
                    dead, by = verdict(*shop.test(mutant.tests))
            killed += dead
            seconds = time.monotonic() - start
            print(f"{mutant.name:<52} {mutant.file:<36} {seconds:4.0f} s  {by}", flush=True)
        print(f"{killed} of {len(chosen)} killed")
    return 0 if killed == len(chosen) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
