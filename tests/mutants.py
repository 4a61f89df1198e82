"""Planted faults, each with the test that must kill it; long, because each fault is data.

    python tests/mutants.py              all faults, a table; status 0 if every one was killed
    python tests/mutants.py NAME...      only these

Works in a copy of the tree with one build folder for the whole run. C++ is compiled with little
optimisation (no bit depends on it), and only if a fault touched it. A fault of the kernels is
planted only in the best instruction set of the machine, because the tests run that one first. Needs
what the extras `test` and `dev` install.
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
# A test that hangs has killed the fault; without a fault tests take seconds.
TIMEOUT = 120


@dataclass(frozen=True)
class Mutant:
    """One fault: in `file`, `old` becomes `new`.

    Any white space in `old` matches any white space.
    """

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
        "ensemble: every member has the states of the first",
        "python/fusedrnn/core/_ensemble.py",
        "return value[e]",
        "return value[e if axes != 3 or value.shape[1] != 1 else 0]",
        killer("ensembles", "each_member_has_the_bits_of_its_own_call", "projection"),
    ),
    Mutant(
        "ensemble: dx of a shared x is that of one member",
        "python/fusedrnn/core/_ensemble.py",
        "total += one",
        "total[...] = one",
        killer("ensembles", "each_member_has_the_bits_of_its_own_call", "shared and native"),
    ),
    Mutant(
        "ensemble: dx that goes to the caller's array is summed too",
        "python/fusedrnn/core/_ensemble.py",
        "if to_x is not None and dx is None and",
        "if to_x is not None and",
        killer("ensembles", "results_go_to_the_arrays_of_the_caller"),
    ),
    Mutant(
        "ensemble: an output may be what another member reads",
        "python/fusedrnn/core/_ensemble.py",
        '[("dx", dx), ("dfirst", dfirst), ("dweights", dweights)],',
        "[],",
        killer("ensembles", "an_output_that_another_member_reads_is_refused"),
    ),
    Mutant(
        "ensemble: weights that changed are taken",
        "python/fusedrnn/core/_ensemble.py",
        "return tuple(one.generation for one in packs)",
        "return (packs[0].generation,) * len(packs)",
        killer("ensembles", "weights_that_changed_are_refused"),
    ),
    Mutant(
        "reference: GRU without r",
        "python/fusedrnn/_backends/reference/cells.py",
        "n = np.tanh(nx + r * nh)",
        "n = np.tanh(nx + nh)",
        killer("forward", "shapes", "reference and gru"),
    ),
    Mutant(
        "reference: dc without f",
        "python/fusedrnn/_backends/reference/cells.py",
        "dc = dc * f",
        "dc = dc * 1",
        killer("gradients", "shapes", "reference and lstm"),
    ),
    Mutant(
        "reference: GRU's dR_n without r",
        "python/fusedrnn/_backends/reference/cells.py",
        "np.stack((dn, dr, dz, dn * r))",
        "np.stack((dn, dr, dz, dn))",
        killer("gradients", "shapes", "reference and gru"),
    ),
    Mutant(
        "reference: gradient crosses a reset",
        "python/fusedrnn/_backends/reference/walks.py",
        "dstate[cut] = 0",
        "dstate[cut] *= 1",
        killer("gradients", "options", "reference and reset"),
    ),
    Mutant(
        "reference: reverse direction cut one step off",
        "python/fusedrnn/core/_plan.py",
        "low, high = here, came",
        "low, high = here - 1, came - 1",
        killer("forward", "options", "reference and reset"),
    ),
    Mutant(
        "reference: late slots see h",
        "python/fusedrnn/_backends/reference/walks.py",
        "da_ht[slots.late :] @ (gate * u)",
        "da_ht[slots.late :] @ u",
        killer("gradients", "shapes", "reference and reset_before"),
    ),
    Mutant(
        "reference: the gradient through LN without its slope",
        "python/fusedrnn/_backends/reference/norm.py",
        "(d - mean - value * slope) * scale",
        "(d - mean) * scale",
        killer("gradients", "shapes", "reference and norm"),
    ),
    Mutant(
        "the gains of W x and of R h swapped",
        "python/fusedrnn/_backends/types.py",
        '("norm_ih", "norm_hh", "norm_c", "norm_c_bias")',
        '("norm_hh", "norm_ih", "norm_c", "norm_c_bias")',
        killer("norm", "sizes_around_the_vectors", "native"),
    ),
    Mutant(
        "a check removed",
        "python/fusedrnn/_checks/arguments.py",
        "if a.shape != shape:",
        "if False:",
        killer("check", "texts"),
    ),
    Mutant(
        "an error text changed",
        "python/fusedrnn/_checks/arguments.py",
        'f"{function}: {name}: expected shape {shape}, got {value.shape}"',
        'f"{function}: {name}: wrong shape"',
        killer("check", "texts"),
    ),
    Mutant(
        "what is kept of a block stays the layer's",
        "python/fusedrnn/_layers/params.py",
        "_leave_to_others(self._arrays) except MemoryError:",
        "pass\n        except MemoryError:",
        killer("writable", "what_is_kept_of_a_block_is_no_longer_the_layers", "reference and view"),
    ),
    Mutant(
        "arrays of params change under their holder",
        "python/fusedrnn/_layers/params.py",
        "_leave_to_others(self._arrays) _let_write(self._arrays, True)",
        "_let_write(self._arrays, True)",
        killer("writable", "arrays_of_params_keep_their_moment", "reference"),
    ),
    Mutant(
        "every block copies",
        "python/fusedrnn/_layers/params.py",
        "if not COUNTED or _references(arrays, name) > ALONE:",
        "if True:",
        killer("writable", "a_training_loop_copies_nothing", "reference"),
    ),
    Mutant(
        "who looks at a parameter does not ask whether they were opened",
        "python/fusedrnn/_layers/params.py",
        "if self._now is now:  # a block",
        "if True:  # a block",
        killer("writable", "a_block_at_any_line_of_a_reader", "reference and one"),
    ),
    Mutant(
        "who looks at all parameters does not ask whether they were opened",
        "python/fusedrnn/_layers/params.py",
        "if self._now is now: return views, now.version",
        "return views, now.version",
        killer("writable", "a_block_at_any_line_of_a_reader", "reference and state_dict"),
    ),
    Mutant(
        "core: a backward call takes other weights",
        "python/fusedrnn/core/_checks.py",
        "if walk.generation != generation:",
        "if walk.generation < 0:",
        killer("core", "update_renews_in_place", "reference"),
    ),
    Mutant(
        "core: a pack reads the caller's arrays",
        "python/fusedrnn/core/_packed.py",
        "{name: a.copy() if copy else a for name, a in one.items()}",
        "{name: a for name, a in one.items()}",
        killer("core", "a_pack_holds_the_values_of_its_making", "reference"),
    ),
    Mutant(
        "core: matches looks at the first array alone",
        "python/fusedrnn/core/_packed.py",
        "others = tuple([theirs[name] for name in mine])",
        'others = tuple([theirs[name] if name == "w_ih" else mine[name] for name in mine])',
        killer("core", "matches_compares_bits", "reference"),
    ),
    Mutant(
        "core: the cache trusts addresses",
        "python/fusedrnn/core/_cache.py",
        "if found is not None and found.matches(weights):",
        "if found is not None:",
        killer("core", "the_cache_finds_and_renews", "reference"),
    ),
    Mutant(
        "core: the cache has no bound",
        "python/fusedrnn/core/_cache.py",
        "while self._packs and (total > self.limit or len(self._packs) > most):",
        "while not self._packs:",
        killer("core", "the_cache_is_bounded", "reference"),
    ),
    Mutant(
        "core: a cache may have any number of packs",
        "python/fusedrnn/core/_cache.py",
        "or len(self._packs) > most",
        "",
        killer("core", "the_cache_takes_keys_of_ones_own"),
    ),
    Mutant(
        "core: an array with repeated rows is written to",
        "python/fusedrnn/core/_call.py",
        "if dx is not None and not (anew.dx is True and _whole(dx)):",
        "if dx is not None and anew.dx is not True:",
        killer("core", "bad_targets_are_named", "native and elements"),
    ),
    Mutant(
        "core: a gradient that is not wanted is written",
        "python/fusedrnn/core/_call.py",
        "if known.get(name) is not True or not _whole(a):",
        "if not _whole(a):",
        killer("core", "bad_targets_are_named", "native and weight"),
    ),
    Mutant(
        "core: a frozen matrix is computed all the same",
        "python/fusedrnn/core/_checks.py",
        "found: dict[str, bool | Array] = {name: name in chosen for name in names}",
        "found: dict[str, bool | Array] = dict.fromkeys(names, True)",
        killer("core", "a_frozen_matrix_and_tokens", "reference"),
    ),
    Mutant(
        "core: counts of other threads are lost",
        "python/fusedrnn/_backends/settings.py",
        "for counts in list(_living.values()):",
        "for counts in [_here.counts]:",
        killer("core", "calls_of_all_threads_are_counted", "reference"),
    ),
    Mutant(
        "a call does not ask whether its weights were opened",
        "python/fusedrnn/core/_packed.py",
        "if found is None or self.sources is not sources or not sources:",
        "if found is None:",
        killer("writable", "a_form_made_while_the_weights_are_opened_is_not_used", "reference"),
    ),
    Mutant(
        "two threads write at once",
        "python/fusedrnn/_layers/params.py",
        'if vars(self).setdefault("_writer", mine) is not mine:',
        'vars(self)["_writer"] = mine\n                if False:',
        killer("writable", "one_of_several_threads_gets_in"),
    ),
    Mutant(
        "an interrupted block stays open",
        "python/fusedrnn/_layers/params.py",
        "finally: self._close(mine, opened) finally: self._close(mine, opened)",
        "finally:\n                self._close(mine, opened)\n        finally:\n            pass",
        killer("writable", "an_interrupt_at_any_line_leaves_the_layer_whole"),
    ),
    Mutant(
        "weights of another cell are taken",
        "python/fusedrnn/_checks/arguments.py",
        "if isinstance(given, str) and given != cell:",
        "if False:",
        killer("config", "weights_of_another_cell_are_refused", "reference"),
    ),
    Mutant(
        "an option that config forgets",
        "python/fusedrnn/_layers/layer.py",
        '"bias": True, "batch_first": False,',
        '"bias": True,',
        killer("config", "a_layer_says_all_of_itself", "batch_first"),
    ),
    Mutant(
        "noise where none was wanted",
        "python/fusedrnn/_layers/layer.py",
        'noisy = _check.flag(noise, "noise") and self._noisy',
        "noisy = self._noisy",
        killer("noise", "training_without_noise", "reference and gru"),
    ),
    Mutant(
        "a step's output is written before its input is read",
        "python/fusedrnn/_layers/steps.py",
        "y = self.step(x, None, real, cut) if y is not None:",
        "x[...] = 0\n        y = self.step(x, None, real, cut)\n        if y is not None:",
        killer("quick_steps", "the_output_may_be_written_over_the_input", "native"),
    ),
    Mutant(
        "one pack for all instruction sets",
        "python/fusedrnn/_backends/native.py",
        "return packed.isa or chosen_isa.get() or DEFAULT_ISA",
        "return packed.isa or DEFAULT_ISA",
        killer("invariance", "packs_are_per_instruction_set"),
    ),
    Mutant(
        "quick steps of a stack do not go back",
        "python/fusedrnn/_layers/steps.py",
        "self._back(done) raise",
        "raise",
        killer("quick_steps", "an_interrupted_stack_goes_back"),
    ),
    Mutant(
        "quick steps outlive a change of the parameters",
        "python/fusedrnn/stream.py",
        "if quick is None or quick.key != key:",
        "if quick is None or quick.key[:3] != key[:3]:",
        killer("quick_steps", "it_follows_every_choice"),
    ),
    Mutant(
        "last_path invents the threads",
        "python/fusedrnn/_backends/native.py",
        'record("native", forms[0].isa, packed.kernel, used)\n        return Outcome(',
        'record("native", forms[0].isa, packed.kernel, 1)\n        return Outcome(',
        killer("invariance", "threads", "lstm and rows and float32"),
    ),
)

LAYERS = (
    Mutant(
        "a stack's states by direction, then layer",
        "python/fusedrnn/_layers/state.py",
        "found = [whole[i * n : (i + 1) * n] for i in range(layers)]",
        "found = [whole[i::layers] for i in range(layers)]",
        killer("stack", "chained_by_hand", "reference and lstm and True"),
    ),
    Mutant(
        "a stack's later layers take the first one's initial",
        "python/fusedrnn/_layers/stack.py",
        "call = call._replace(initial=initial[k])",
        "call = call._replace(initial=initial[0])",
        killer("stack", "chained_by_hand", "reference and lstm"),
    ),
    Mutant(
        "only the first layer knows the lengths",
        "python/fusedrnn/_layers/stack.py",
        "call._replace(x=out, tokens=None)",
        "call._replace(x=out, tokens=None, lengths=None)",
        killer("padding", "each_sequence_alone", "gru and lengths"),
    ),
    Mutant(
        "reference: directions change places in y",
        "python/fusedrnn/_backends/reference/walks.py",
        "y[:, :, d * out : (d + 1) * out]",
        "y[:, :, (len(weights) - 1 - d) * out : (len(weights) - d) * out]",
        killer("stack", "two_directions", "reference"),
    ),
    Mutant(
        "repeated outputs come from the next step",
        "python/fusedrnn/_layers/outside.py",
        "source = _sources(valid, d == 1) shown",
        "source = _sources(valid, d == 0)\n        shown",
        killer("padding", "forward"),
    ),
    Mutant(
        "the gradient of repeated outputs is forgotten",
        "python/fusedrnn/_layers/outside.py",
        "np.add.at(total, (source[t, b], b), half[t, b])",
        "",
        killer("padding", "gradients", "reference and repeat"),
    ),
    Mutant(
        "one repeated output of several has its gradient",
        "python/fusedrnn/_layers/outside.py",
        "np.add.at(total, (source[t, b], b), half[t, b])",
        "total[source[t, b], b] += half[t, b]",
        killer("padding", "gradients", "reference and repeat"),
    ),
    Mutant(
        "what forward saves shares the caller's states",
        "python/fusedrnn/_layers/layer.py",
        "now, first, cut = self._start(state, initial, reset, rows, copy=True)",
        "now, first, cut = self._start(state, initial, reset, rows)",
        killer("chunks", "what_forward_was_given_may_change"),
    ),
    Mutant(
        "what forward saves shares the caller's mask",
        "python/fusedrnn/_checks/options.py",
        "return _check.contiguous(a, np.dtype(bool), copy=copy)",
        "return _check.contiguous(a, np.dtype(bool))",
        killer("chunks", "what_forward_was_given_may_change", "mask"),
    ),
    Mutant(
        "padding's value where it is 0 alone",
        "python/fusedrnn/_layers/layer.py",
        "if padding.mask is not None or how.value != 0:",
        "if padding.mask is not None:",
        killer("padding", "forward"),
    ),
    Mutant(
        "a stream's resets start from zeros",
        "python/fusedrnn/stream.py",
        "cut = layer._initial(initial, reset, rows.batch if rows.batched else None)",
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
        "python/fusedrnn/_backends/reference/call.py",
        "return rates[k] if keep is None else",
        "return None if keep is None else",
        killer("noise", "forward", "reference and zoneout"),
    ),
    Mutant(
        "dropout on the last layer",
        "python/fusedrnn/_layers/noise.py",
        "output = None if last else factors(",
        "output = factors(",
        killer("noise", "forward", "reference and gru"),
    ),
    Mutant(
        "dropout is not scaled",
        "python/fusedrnn/_layers/noise.py",
        "kept.astype(dtype) / dtype.type(1 - rate)",
        "kept.astype(dtype)",
        killer("noise", "statistics"),
    ),
    Mutant(
        "dropout's mask is forgotten on the way back",
        "python/fusedrnn/_layers/stack.py",
        "dy = masked(dy, drawn.output)",
        "pass",
        killer("noise", "gradients", "reference and gru and dropout"),
    ),
    Mutant(
        "DropConnect's mask is forgotten on the way back",
        "python/fusedrnn/_layers/stack.py",
        "directions = connected_back(directions, drawn)",
        "pass",
        killer("noise", "drop_connect_masks_its_gradient", "reference"),
    ),
    Mutant(
        "each dtype draws its own masks",
        "python/fusedrnn/_layers/noise.py",
        "kept: Array = rng.random(shape, dtype=np.float32) >= np.float32(rate)",
        "kept: Array = rng.random(shape, dtype=w.dtype) >= np.float32(rate)",
        killer("noise", "a_seed_decides", "reference"),
    ),
    Mutant(
        "masks as the call is laid out",
        "python/fusedrnn/_layers/stack.py",
        "out = masked(out, drawn.output)",
        "out = masked(out, drawn.output[::-1])",
        killer("noise", "forward", "reference"),
    ),
    Mutant(
        "tokens under input dropout have a gradient",
        "python/fusedrnn/_layers/layer.py",
        "if saved._of_tokens:",
        "if False:",
        killer("noise", "tokens", "reference"),
    ),
    Mutant(
        "a learned state: resets put zeros",
        "python/fusedrnn/_layers/layer.py",
        "if self.learn_initial_state and value is None and reset is not None:",
        "if False:",
        killer("initial_state", "it_is_the_state_of_every_sequence", "reference and rnn"),
    ),
    Mutant(
        "a learned state: its gradient does not know of resets",
        "python/fusedrnn/_layers/layer.py",
        "zip((dfirst, dinitial), saved._learned, strict=True)",
        "zip((dfirst,), saved._learned[:1], strict=True)",
        killer("initial_state", "gradients", "reference and rnn"),
    ),
    Mutant(
        "a learned state: a state that was given has its gradient",
        "python/fusedrnn/_layers/layer.py",
        "learned and state is None, learned and initial is None",
        "learned, learned",
        killer("initial_state", "a_state_that_is_given_is_used", "reference and rnn"),
    ),
    Mutant(
        "a learned state: streams begin with zeros",
        "python/fusedrnn/stream.py",
        "return self.layer._first_states(self.batch_size)",
        "return self.layer._form.zeros(self.batch_size)",
        killer("initial_state", "streams_begin_with_it", "reference and rnn"),
    ),
    Mutant(
        "a checkpoint of other options fits",
        "python/fusedrnn/nn/_checkpoint.py",
        "else v is False for k, v in new.items()",
        "else True for k, v in new.items()",
        killer("initial_state", "an_older_checkpoint_lacks_the_option"),
    ),
    Mutant(
        "reference: the gradient of initial is that of its first row",
        "python/fusedrnn/_backends/reference/walks.py",
        "initial[rows[cut]] += dstate[cut]",
        "initial[rows[cut][:1]] += dstate[cut][:1]",
        killer("gradients", "options", "reference and gru and reset"),
    ),
    Mutant(
        "each sequence's gradient is another's",
        "python/fusedrnn/_backends/reference/walks.py",
        "np.where(groups == k, lengths, 0)",
        "np.where(groups == batch - 1 - k, lengths, 0)",
        killer("per_sample", "per_sample", "reference and gru"),
    ),
    Mutant(
        "cells are a view of what is saved",
        "python/fusedrnn/_layers/inside.py",
        "joined = np.concatenate(list(a), axis=2)",
        "joined = a[0] if len(a) == 1 else np.concatenate(list(a), axis=2)",
        killer("inside", "what_is_shown_is_the_callers"),
    ),
    Mutant(
        "gradients of gates in the other direction",
        "python/fusedrnn/_layers/inside.py",
        "return np.ascontiguousarray(np.moveaxis(apart, 2, 0))",
        "return np.ascontiguousarray(np.moveaxis(apart, 2, 0)[::-1])",
        killer("inside", "gradients", "reference and gru"),
    ),
    Mutant(
        "the forget bias twice",
        "python/fusedrnn/_layers/layer.py",
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

# Losses, the optimiser, and the code below them.
MODELS = (
    Mutant(
        "Adam: moments of arrays by name alone",
        "python/fusedrnn/nn/_targets.py",
        "return memory, (address, array.shape, array.strides, array.dtype.str)",
        "return Kept, name",
        killer("optim", "equal_names_of_two_mappings_never_meet"),
    ),
    Mutant(
        "Adam: layers of one class share their moments",
        "python/fusedrnn/nn/_targets.py",
        "layer = arrays.owner",
        "layer = type(arrays.owner)",
        killer("optim", "two_layers_of_equal_names_never_share_moments"),
    ),
    Mutant(
        "Adam: arrays of a layer in a dict are strangers",
        "python/fusedrnn/nn/_targets.py",
        "of_layers = parameter_arrays()",
        "of_layers = {}",
        killer("optim", "every_way_to_a_layer_leads_to_one_state"),
    ),
    Mutant(
        "Adam: an id that came back is the old owner",
        "python/fusedrnn/nn/_targets.py",
        "if reference is not None and reference() is owner else",
        "if reference is not None else",
        killer("optim", "a_reused_id_is_no_layer_of_old"),
    ),
    Mutant(
        "Adam: moments are written before the parameters are looked at",
        "python/fusedrnn/nn/_optimizer.py",
        "opened, parameters = found.opened(params, given), found.parameters",
        "parameters = found.parameters\n        for name in given:\n            m ="
        " self._moments(name, parameters[name])\n            m.steps += 1\n           "
        " self._kept.put(*parameters[name].place, m)\n        opened = found.opened(params, given)",
        killer("optim", "what_fails_before_the_write_changes_nothing"),
    ),
    Mutant(
        "clipping: the last mapping alone",
        "python/fusedrnn/nn/clipping.py",
        "for k, mapping in enumerate(gradients):",
        "for k, mapping in enumerate(gradients[-1:]):",
        killer("optim", "two_layers_of_equal_names_are_clipped_together"),
    ),
    Mutant(
        "clipping by value: the sign is lost",
        "python/fusedrnn/nn/clipping.py",
        "np.copysign(limit, g, out=g, where=beyond)",
        "np.copyto(g, limit, where=beyond)",
        killer("clipping", "each_element_is_moved_to_the_bound"),
    ),
    Mutant(
        "SGD: Nesterov's step without the gradient itself",
        "python/fusedrnn/nn/optim.py",
        "ahead += g",
        "ahead += 0",
        killer("optimizers", "sgd_by_hand"),
    ),
    Mutant(
        "SGD: the penalty changes the caller's gradient",
        "python/fusedrnn/nn/optim.py",
        "out += g\n    return out",
        "g += out\n    return g",
        killer("optimizers", "any_layout_of_memory_gives_the_same_bits"),
    ),
    Mutant(
        "AdamW: the decay does not follow the learning rate",
        "python/fusedrnn/nn/optim.py",
        "p *= 1.0 - self.lr * self.weight_decay",
        "p *= 1.0 - self.weight_decay",
        killer("optimizers", "adamw_by_hand"),
    ),
    Mutant(
        "RMSprop: the velocity holds the gradient unscaled",
        "python/fusedrnn/nn/optim.py",
        "v += root",
        "v += g",
        killer("optimizers", "rmsprop_by_hand"),
    ),
    Mutant(
        "an optimiser takes hyperparameters that exclude each other",
        "python/fusedrnn/nn/_optimizer.py",
        "optimizer._fit_together(settings)",
        "optimizer._fit_together({})",
        killer("optimizers", "nesterov_keeps_its_momentum"),
    ),
    Mutant(
        "loss: a step of padding counts",
        "python/fusedrnn/nn/_rows.py",
        "counted = np.arange(steps)[:, None] < real",
        "counted = np.arange(steps)[:, None] <= real",
        killer("losses", "cross_entropy_counts_no_padding"),
    ),
    Mutant(
        "loss: padding counts in the mean",
        "python/fusedrnn/nn/losses.py",
        "value, gradient = _cross_entropy(a[counted], wanted[counted], shares)",
        "value, gradient = _cross_entropy(a[counted], wanted[counted], shares);"
        " value *= counted.mean()",
        killer("losses", "cross_entropy_counts_no_padding"),
    ),
    Mutant(
        "loss: ignored targets make padding count",
        "python/fusedrnn/nn/_rows.py",
        "counted = unlike if counted is None else counted & unlike",
        "counted = unlike",
        killer("losses", "no_bit_depends_on_what_is_in_the_padding"),
    ),
    Mutant(
        "loss: a weighted mean is divided by the number of rows",
        "python/fusedrnn/nn/_rows.py",
        "found /= found.sum()",
        "found /= found.size",
        killer("losses", "class_weights_by_hand"),
    ),
    Mutant(
        "loss: the shares of a weighted mean of numbers do not sum to 1",
        "python/fusedrnn/nn/losses.py",
        "shares / (values.size // len(shares))",
        "shares * len(shares) / (values.size // len(shares))",
        killer("losses", "weights_are_repeated_rows"),
    ),
    Mutant(
        "fit: a batch of small sample weights counts as one of large weights",
        "python/fusedrnn/nn/_batches.py",
        "return Weight(float((self.weights * steps).sum()), self.counted)",
        "return Weight(self.counted, self.counted)",
        killer("fit", "sample_weights_are_repeated_samples"),
    ),
    Mutant(
        "loss: rows of weight 0 count",
        "python/fusedrnn/nn/_rows.py",
        "counted = np.asarray(of_rows > 0)",
        "counted = np.asarray(of_rows >= 0)",
        killer("losses", "rows_of_weight_zero_do_not_count"),
    ),
    Mutant(
        "loss: the weight of a yes is that of a no",
        "python/fusedrnn/nn/losses.py",
        "yes = yes * of_yes",
        "no = no * of_yes",
        killer("losses", "binary_cross_entropy_by_hand"),
    ),
    Mutant(
        "loss: an infinite logit of the right answer is no number",
        "python/fusedrnn/nn/losses.py",
        "losses = np.where(no > 0, no * (np.maximum(x, 0) + tail), 0.0)",
        "losses = no * (np.maximum(x, 0) + tail)",
        killer("losses", "logits_of_any_size_have_a_binary_cross_entropy"),
    ),
    Mutant(
        "metrics: the columns of a confusion matrix are the targets",
        "python/fusedrnn/nn/metrics.py",
        "places = wanted * size + found",
        "places = found * size + wanted",
        killer("metrics", "confusion"),
    ),
    Mutant(
        "metrics: balanced accuracy weighs classes by their rows",
        "python/fusedrnn/nn/metrics.py",
        "return float((right / rows).mean())",
        "return float(right.sum() / rows.sum())",
        killer("metrics", "balanced_accuracy_is_the_mean_over_the_classes_that_occur"),
    ),
    Mutant(
        "metrics: the naive forecast is of the step before, whatever the season",
        "python/fusedrnn/nn/metrics.py",
        "np.abs(a[step:] - a[:-step]).mean(axis=0)",
        "np.abs(a[1:] - a[:-1]).mean(axis=0)",
        killer("metrics", "mase_by_hand"),
    ),
    Mutant(
        "schedules: the warm-up starts with a step of nothing",
        "python/fusedrnn/nn/schedules.py",
        "return self.lr * (step + 1) / self.warmup",
        "return self.lr * step / self.warmup",
        killer("schedules", "schedules_by_hand"),
    ),
    Mutant(
        "schedules: values after a reduction count",
        "python/fusedrnn/nn/schedules.py",
        "self._cooling = self._cooldown",
        "self._cooling = 0",
        killer("schedules", "the_rate_falls_on_a_plateau"),
    ),
    Mutant(
        "early stopping: the parameters of the last value are kept",
        "python/fusedrnn/nn/stopping.py",
        "if self._best.beaten_by(value): self._kept = None if parts is None else _states(parts)",
        "self._kept = None if parts is None else _states(parts)\n"
        "        if self._best.beaten_by(value):",
        killer("stopping", "the_best_parameters_come_back"),
    ),
    Mutant(
        "early stopping: a model that has diverged is the best",
        "python/fusedrnn/nn/_best.py",
        "return math.isfinite(real)",
        "return self.value is None",
        killer("stopping", "values_that_are_not_finite_are_never_best"),
    ),
    Mutant(
        "early stopping: some layers are restored and others not",
        "python/fusedrnn/nn/stopping.py",
        "part.load_state_dict(before[name])",
        "pass",
        killer("stopping", "a_restore_is_complete_or_has_no_effect"),
    ),
    Mutant(
        "Ctrl-C comes in the middle of a change",
        "python/fusedrnn/_interrupts.py",
        "held[number] = frame",
        "handlers[number](number, frame)",
        killer("interrupts", "a_signal_waits_for_the_end"),
    ),
)

# Layers that are not recurrent.
PARTS = (
    Mutant(
        "Embedding: the padding row has a gradient",
        "python/fusedrnn/nn/embedding.py",
        "real = kept != self.padding_idx",
        "real = kept == kept",
        killer("nn_layers", "gradients_by_rows_are_those_of_the_table"),
    ),
    Mutant(
        "Embedding: of equal ids the last one counts",
        "python/fusedrnn/nn/embedding.py",
        "np.add.reduceat(d[order], first, axis=0)",
        "d[order][first]",
        killer("nn_layers", "embedding_looks_rows_up"),
    ),
    Mutant(
        "Embedding: equal ids in any order",
        "python/fusedrnn/nn/embedding.py",
        'order = np.argsort(kept, kind="stable")',
        "order = np.argsort(kept)",
        killer("nn_layers", "the_sum_of_an_id_does_not_depend_on_other_ids"),
    ),
    Mutant(
        "Embedding: an id is the nearest to itself",
        "python/fusedrnn/nn/embedding.py",
        "[own, self._padding_row(own)]",
        "[self._padding_row(-1)]",
        killer("nn_layers", "nearest_are_the_most_alike"),
    ),
    Mutant(
        "Dropout without its scale",
        "python/fusedrnn/nn/dropout.py",
        "/ self.dtype.type(1 - self.p)",
        "/ self.dtype.type(1)",
        killer("nn_layers", "dropout_drops_and_scales"),
    ),
    Mutant(
        "LayerNorm: the gradient without the mean's part",
        "python/fusedrnn/nn/layer_norm.py",
        "(d - d.mean(axis=1, keepdims=True) - rows * slope)",
        "(d - rows * slope)",
        killer("nn_layers", "layer_norm_gradients_are_central_differences"),
    ),
    Mutant(
        "LayerNorm: the mean in float32",
        "python/fusedrnn/nn/layer_norm.py",
        "rows -= rows.mean(axis=1, keepdims=True)",
        "rows -= flat_rows(x).mean(axis=1, keepdims=True)",
        killer("nn_layers", "layer_norm_loses_no_digits_to_a_large_mean"),
    ),
    Mutant(
        "RepeatVector: a step of the sum is lost",
        "python/fusedrnn/nn/repeat_vector.py",
        "for step in steps:",
        "for step in steps[1:]:",
        killer("nn_layers", "a_vector_becomes_a_sequence"),
    ),
    Mutant(
        "Activation: the slope of tanh from its value",
        "python/fusedrnn/nn/activation.py",
        "return 4 * _sigmoid_slope(2 * x)",
        "return 1 - np.square(np.tanh(x))",
        killer("nn_layers", "activations_are_their_equations"),
    ),
    Mutant(
        "softmax without its largest element",
        "python/fusedrnn/nn/activation.py",
        "e: Array = x - x.max(axis=-1, keepdims=True)",
        "e: Array = x.copy()",
        killer("nn_layers", "activations_of_extreme_numbers_warn_of_nothing"),
    ),
    Mutant(
        "a layer made of a config draws its parameters first",
        "python/fusedrnn/nn/_layer.py",
        'options["seed"] = Restored(state) layer = cls(**options)',
        "layer = cls(**options); layer.load_state_dict(state)",
        killer("nn_layers", "a_config_cannot_ask_for_more_memory_than_its_parameters_fill"),
    ),
    Mutant(
        "products by NumPy's own @",
        "python/fusedrnn/nn/_product.py",
        'w = core.pack("dense", {"w_ih": np.ascontiguousarray(w)}, copy=False)',
        "return a @ w.T",
        killer("nn_layers", "a_row_of_a_product_does_not_depend_on_the_others"),
    ),
    Mutant(
        "pool: padding in a mean",
        "python/fusedrnn/nn/pool.py",
        "np.add(sums, steps[t], out=sums, where=(real > t)[:, None])",
        "np.add(sums, steps[t], out=sums)",
        killer("nn_layers", "pooling_is_of_real_steps"),
    ),
    Mutant(
        "pool: a mean over padded steps",
        "python/fusedrnn/nn/pool.py",
        "(sums / np.maximum(real, 1)[:, None])",
        "(sums / max(len(steps), 1))",
        killer("nn_layers", "pooling_is_of_real_steps"),
    ),
    Mutant(
        "pool: a maximum over padded steps",
        "python/fusedrnn/nn/pool.py",
        "steps[:n, row].argmax(axis=0)",
        "steps[:, row].argmax(axis=0)",
        killer("nn_layers", "pooling_is_of_real_steps"),
    ),
    Mutant(
        "pool: the whole gradient to each step of a mean",
        "python/fusedrnn/nn/pool.py",
        "share = d[rows] / kept.real[rows, None].astype(self.dtype)",
        "share = d[rows]",
        killer("nn_layers", "pooled_gradients_are_central_differences"),
    ),
    Mutant(
        "sequential: pooling without lengths",
        "python/fusedrnn/nn/_links.py",
        "y, saved = self.layer.forward(self._turned(a), lengths=call.lengths)",
        "y, saved = self.layer.forward(self._turned(a))",
        killer("sequential", "a_pooled_model_reads_real_steps"),
    ),
    Mutant(
        "attention: keys in the padding are read",
        "python/fusedrnn/nn/attention.py",
        "counts = [read.steps] * read.batch if real is None else real.tolist()",
        "counts = [read.steps] * read.batch",
        killer("attention", "attention_is_its_equations"),
    ),
    Mutant(
        "attention: padding is multiplied with zeros",
        "python/fusedrnn/nn/attention.py",
        "given[1][b, n:] = 0 given[2][b, n:] = 0",
        "pass",
        killer("attention", "padding_is_not_read"),
    ),
    Mutant(
        "attention: the gradient of the weights is lost",
        "python/fusedrnn/nn/attention.py",
        "of_weights = times(dc[b], values, threads) + dw[b, :, :n]",
        "of_weights = times(dc[b], values, threads)",
        killer("attention", "attention_gradients_are_central_differences"),
    ),
    Mutant(
        "attention: gradients without the scale",
        "python/fusedrnn/nn/attention.py",
        "ds * self._scale(kept.queries)",
        "ds",
        killer("attention", "attention_gradients_are_central_differences"),
    ),
    Mutant(
        "attention: sums of products that begin with the padding",
        "python/fusedrnn/nn/_product.py",
        "_of_weights(a[::-1], b[::-1], 1, threads)",
        "_of_weights(a, b, 1, threads)",
        killer("attention", "sums_of_products_depend_on_their_sequence_alone"),
    ),
    Mutant(
        "attention: gradients of padding from a query with NaN",
        "python/fusedrnn/nn/attention.py",
        "into[b, :n] = found[b, :n]",
        "into[b] = found[b]",
        killer("attention", "a_query_with_nan_leaves_padding_alone"),
    ),
    Mutant(
        "attention: v of the last sequence alone",
        "python/fusedrnn/nn/attention.py",
        "dscore += own",
        "dscore = own",
        killer("attention", "attention_gradients_are_central_differences"),
    ),
)

# Layers in a row as one model.
CHAINS = (
    Mutant(
        "last: the padded step",
        "python/fusedrnn/nn/last.py",
        "return [(slice(None), real - 1)]",
        "return [(slice(None), np.full_like(real, real.max(initial=1) - 1))]",
        killer("sequential", "last_is_the_state_of_the_layer"),
    ),
    Mutant(
        "last: both directions at the last step",
        "python/fusedrnn/nn/last.py",
        "(slice(middle, None), np.zeros_like(real))",
        "(slice(middle, None), real - 1)",
        killer("sequential", "last_is_the_state_of_the_layer"),
    ),
    Mutant(
        "sequential: lengths pass through Last",
        "python/fusedrnn/nn/_links.py",
        "return self if link.keeps_steps else self._replace(lengths=None)",
        "return self",
        killer("sequential", "a_model_is_its_layers_by_hand"),
    ),
    Mutant(
        "sequential: recurrent layers draw noise of their own",
        "python/fusedrnn/nn/_links.py",
        "rng=call.rng, noise=call.noise,",
        "noise=call.noise,",
        killer("sequential", "a_model_is_its_layers_by_hand"),
    ),
    Mutant(
        "sequential: gradients by the places from the end",
        "python/fusedrnn/nn/_links.py",
        "for k, of in enumerate(reversed(found))",
        "for k, of in enumerate(found)",
        killer("sequential", "gradients_are_central_differences"),
    ),
    Mutant(
        "sequential: a time-major x is taken",
        "python/fusedrnn/nn/_links.py",
        "return a.swapaxes(0, 1), _check_options.lengths(lengths, rows, copy=True)",
        "return a, _check_options.lengths(lengths, rows, copy=True)",
        killer("sequential", "a_model_is_its_layers_by_hand"),
    ),
    Mutant(
        "sequential: the parameters of other cells are loaded",
        "python/fusedrnn/nn/_model.py",
        '_check.same_cell(getattr(state_dict, "cell", None), self._cell())',
        "pass",
        killer("sequential", "a_state_or_config_that_does_not_fit_is_refused"),
    ),
    Mutant(
        "fit: noise that nobody can draw again",
        "python/fusedrnn/nn/sequential.py",
        "self.forward(**batch.inputs, state=state, rng=rng)",
        "self.forward(**batch.inputs, state=state)",
        killer("fit", "fit_is_the_loop_by_hand"),
    ),
    Mutant(
        "fit: every epoch in one order",
        "python/fusedrnn/nn/_training.py",
        "np.random.default_rng([plan.seed, self.epochs])",
        "np.random.default_rng([plan.seed, 0])",
        killer("fit", "fit_is_the_loop_by_hand"),
    ),
    Mutant(
        "fit: the schedule begins anew in each epoch",
        "python/fusedrnn/nn/_training.py",
        "plan.schedule(self.updates + k)",
        "plan.schedule(k)",
        killer("fit", "fit_is_the_loop_by_hand"),
    ),
    Mutant(
        "fit: a small batch counts as a large one",
        "python/fusedrnn/nn/sequential.py",
        "count = len(part) if piece.stop is None",
        "count = 1 if piece.stop is None",
        killer("fit", "fit_is_the_loop_by_hand"),
    ),
    Mutant(
        "fit: padding is learned",
        "python/fusedrnn/nn/_training.py",
        "loss, values, counts = self.objective.measured(y, batch)",
        "loss, values, counts = self.objective.measured(y, batch._replace(lengths=None))",
        killer("fit", "what_is_padded_changes_nothing"),
    ),
    Mutant(
        "fit: balanced accuracy of the last batch",
        "python/fusedrnn/nn/_objective.py",
        "self.counts + counts if self.counts.size else counts",
        "counts",
        killer("fit", "balanced_accuracy_is_of_all_rows"),
    ),
    Mutant(
        "fit: padding in the balanced accuracy",
        "python/fusedrnn/nn/_objective.py",
        "counts_of_classes(y, targets, classes=classes, **options)",
        "counts_of_classes(y, targets, classes=classes)",
        killer("fit", "balanced_accuracy_is_of_all_rows"),
    ),
    Mutant(
        "fit: balanced accuracy with logits as answers",
        "python/fusedrnn/nn/_objective.py",
        "if _parted(self.loss)[0] is binary_cross_entropy: y,",
        "if False: y,",
        killer("fit", "balanced_accuracy_of_answers"),
    ),
    Mutant(
        "parallel: counts of one process in an epoch",
        "python/fusedrnn/nn/_parallel.py",
        "found, whole_counts = found[: len(head)], found[len(head) :].reshape(counts.shape)",
        "found, whole_counts = found[: len(head)], counts",
        killer("parallel", "processes_are_one_process_with_all_samples"),
    ),
    Mutant(
        "parallel: counts of one process in validation",
        "python/fusedrnn/nn/_parallel.py",
        "found[len(own) :].reshape(means.counts.shape)",
        "means.counts",
        killer("parallel", "processes_are_one_process_with_all_samples"),
    ),
    Mutant(
        "fit: gradients are not clipped",
        "python/fusedrnn/nn/_training.py",
        "if plan.clip_norm is not None: norm",
        "if plan.clip_norm == 0: norm",
        killer("fit", "a_run_is_torchs"),
    ),
    Mutant(
        "fit: a run that was stopped keeps its last epoch",
        "python/fusedrnn/nn/_training.py",
        "(name or plan.early_stopping is not None)",
        "plan.early_stopping is not None",
        killer("fit", "a_signal_keeps_the_best_epoch"),
    ),
    Mutant(
        "fit: a run that diverged keeps what it has",
        "python/fusedrnn/nn/_training.py",
        'model.load_state_dict(self.best.state) whose = f"of epoch',
        'whose = f"of epoch',
        killer("fit", "a_run_that_diverges_is_an_error"),
    ),
    Mutant(
        "fit: the second Ctrl-C is swallowed",
        "python/fusedrnn/nn/_stops.py",
        "signal.raise_signal(number)",
        "pass",
        killer("fit", "a_signal_within_an_epoch"),
    ),
    Mutant(
        "checkpoint: the last epoch is the best",
        "python/fusedrnn/nn/_training.py",
        "else best.state",
        "else model.state_dict()",
        killer("fit", "a_resumed_run_has_the_same_bits", "early"),
    ),
    Mutant(
        "resume: early stopping forgets",
        "python/fusedrnn/nn/_training.py",
        "if stopping.best is None and stopping.waited == 0:",
        "if not values:",
        killer("fit", "a_resumed_run_has_the_same_bits", "early"),
    ),
    Mutant(
        "resume: the plateau forgets",
        "python/fusedrnn/nn/_training.py",
        "if schedule.best is None:",
        "if not values:",
        killer("fit", "a_resumed_run_has_the_same_bits", "plateau"),
    ),
    Mutant(
        "resume: updates are counted anew",
        "python/fusedrnn/nn/_training.py",
        "self.epochs, self.updates = found.epochs, found.updates",
        "self.epochs, self.updates = found.epochs, 0",
        killer("fit", "a_resumed_run_has_the_same_bits", "schedule"),
    ),
    Mutant(
        "checkpoint: that of other layers is loaded",
        "python/fusedrnn/nn/_checkpoint.py",
        'if not _describes(header.get("model"), model.config()):',
        'if "model" not in header:',
        killer("fit", "a_file_that_is_no_checkpoint_is_refused"),
    ),
    Mutant(
        "predict: what the layers make of padding",
        "python/fusedrnn/nn/sequential.py",
        "y = np.where(real[..., None], y, 0)",
        "pass",
        killer("fit", "predict_is_the_model_without_what_is_padded"),
    ),
    Mutant(
        "fit: targets of more steps than x are cut",
        "python/fusedrnn/nn/_batches.py",
        "if aligned and targets is not None and targets.shape[1:2] != a.shape[1:2]:",
        "if aligned and targets is not None and targets.shape[1:2] < a.shape[1:2]:",
        killer("fit", "what_fit_refuses"),
    ),
    Mutant(
        "fit: batches of any length",
        "python/fusedrnn/nn/_batches.py",
        "part[:] = data.by_length(part)",
        "part[:] = part[::-1]",
        killer("fit", "batches_are_of_similar_length"),
    ),
    Mutant(
        "pieces: every piece begins with zeros",
        "python/fusedrnn/nn/_training.py",
        "state = self._update( model, plan, batch, state if piece.start else None, k,",
        "state = self._update( model, plan, batch, None, k,",
        killer("fit", "a_piece_begins_with_the_state_of_a_whole_call"),
    ),
    Mutant(
        "pieces: a batch begins with the state of the batch before",
        "python/fusedrnn/nn/_training.py",
        "state = self._update( model, plan, batch, state if piece.start else None, k,",
        "state = self._update( model, plan, batch, state, k,",
        killer("fit", "a_piece_begins_with_the_state_of_a_whole_call"),
    ),
    Mutant(
        "pieces: lengths are those of the whole",
        "python/fusedrnn/nn/_batches.py",
        "np.clip(self.lengths[rows] - piece.start, 0, stop - piece.start)",
        "np.clip(self.lengths[rows], 0, stop - piece.start)",
        killer("fit", "a_piece_begins_with_the_state_of_a_whole_call"),
    ),
    Mutant(
        "pieces: validation forgets the state",
        "python/fusedrnn/nn/_training.py",
        "model._inferred(batch, state if piece.start else None)",
        "model._inferred(batch, None)",
        killer("fit", "pieces_learn_what_lies_further_back_than_a_piece"),
    ),
    Mutant(
        "pieces: predict forgets the state",
        "python/fusedrnn/nn/sequential.py",
        "self._called(part.x, part.lengths, state if piece.start else None)",
        "self._called(part.x, part.lengths, None)",
        killer("fit", "pieces_learn_what_lies_further_back_than_a_piece"),
    ),
    Mutant(
        "pieces: a reverse direction is read in pieces",
        "python/fusedrnn/nn/sequential.py",
        "elif any(layer.bidirectional for layer in layers):",
        "elif False:",
        killer("fit", "what_cannot_be_read_in_pieces"),
    ),
    Mutant(
        "pieces: a short piece counts as a long one",
        "python/fusedrnn/nn/sequential.py",
        "else part.x.shape[0] * part.x.shape[1]",
        "else len(part)",
        killer("fit", "pieces_learn_what_lies_further_back_than_a_piece"),
    ),
    Mutant(
        "parallel: a small batch counts as a large one",
        "python/fusedrnn/nn/_parallel.py",
        "share = weight.loss / whole.loss if whole.loss else 0.0",
        "share = 0.5",
        killer("parallel", "processes_are_one_process_with_all_samples"),
    ),
    Mutant(
        "parallel: a signal is not passed on",
        "python/fusedrnn/nn/_parallel.py",
        "bool(found[2] > 0)",
        "stops.name is not None",
        killer("parallel", "a_signal_of_one_process_ends_all_at_one_update"),
    ),
    Mutant(
        "parallel: each process watches its own validation data",
        "python/fusedrnn/nn/_training.py",
        "held = plan.processes.joined(found, self.objective.measures).values(names)",
        "held = found.values(names)",
        killer("parallel", "processes_decide_as_one"),
    ),
    Mutant(
        "parallel: each process looks at its own loss",
        "python/fusedrnn/nn/_training.py",
        'if math.isfinite(values["loss"]):',
        "if math.isfinite(loss.value):",
        killer("parallel", "a_process_that_diverges_ends_all"),
    ),
    Mutant(
        "parallel: any parameters to begin with",
        "python/fusedrnn/nn/_parallel.py",
        "digest = zlib.crc32(",
        "_ = zlib.crc32(",
        killer("parallel", "what_differs_between_processes_is_said_by_all"),
    ),
    Mutant(
        "seq2seq: the decoder reads the token that it is to say",
        "python/fusedrnn/nn/seq2seq.py",
        "found[0], found[1:] = start, ids[:, :-1].T",
        "found[:] = ids.T",
        killer("seq2seq", "a_model_is_its_layers_by_hand"),
    ),
    Mutant(
        "seq2seq: directions change places on the bridge",
        "python/fusedrnn/nn/seq2seq.py",
        "np.concatenate(list(a), axis=-1)[None]",
        "np.concatenate(list(a)[::-1], axis=-1)[None]",
        killer("seq2seq", "a_model_is_its_layers_by_hand"),
    ),
    Mutant(
        "seq2seq: gradients change places on the bridge",
        "python/fusedrnn/nn/seq2seq.py",
        "np.stack(np.split(a[0], both, axis=-1))",
        "np.stack(np.split(a[0], both, axis=-1)[::-1])",
        killer("seq2seq", "gradients_are_central_differences", "deep"),
    ),
    Mutant(
        "seq2seq: the context vector has no gradient",
        "python/fusedrnn/nn/seq2seq.py",
        "encoder.backward_all(of[-1], dread, dlast)",
        "encoder.backward_all(of[-1], dread)",
        killer("seq2seq", "gradients_are_central_differences", "deep"),
    ),
    Mutant(
        "seq2seq: keys have no gradient",
        "python/fusedrnn/nn/seq2seq.py",
        "back.dkeys + back.dvalues",
        "back.dvalues",
        killer("seq2seq", "gradients_are_central_differences", "additive"),
    ),
    Mutant(
        "seq2seq: queries have no gradient",
        "python/fusedrnn/nn/seq2seq.py",
        "d[..., :width] + _turned(back.dqueries, layer)",
        "d[..., :width]",
        killer("seq2seq", "gradients_are_central_differences", "additive"),
    ),
    Mutant(
        "seq2seq: padding of the source is looked at",
        "python/fusedrnn/nn/seq2seq.py",
        'self._parts.get("attention"), read.call.lengths',
        'self._parts.get("attention"), None',
        killer("seq2seq", "a_model_is_its_layers_by_hand"),
    ),
    Mutant(
        "seq2seq: the end itself is not learned",
        "python/fusedrnn/nn/seq2seq.py",
        "over[:, 1:] |= targets[:, :-1] == self.end",
        "over |= targets == self.end",
        killer("seq2seq", "a_model_is_its_layers_by_hand"),
    ),
    Mutant(
        "seq2seq: padding of the targets is learned",
        "python/fusedrnn/nn/seq2seq.py",
        "return Batch(inputs, part.y, part.ends,",
        "return Batch(inputs, np.maximum(part.y, 0), None,",
        killer("seq2seq", "what_is_padded_changes_nothing"),
    ),
    Mutant(
        "seq2seq: nothing ends a sequence",
        "python/fusedrnn/nn/seq2seq.py",
        "tokens[over] = self.end",
        "pass",
        killer("seq2seq", "what_was_said_is_the_argmax_of_the_model"),
    ),
    Mutant(
        "seq2seq: all go on to max_length",
        "python/fusedrnn/nn/seq2seq.py",
        "if over.all():",
        "if False:",
        killer("seq2seq", "a_sequence_ends_with_its_end"),
    ),
    Mutant(
        "seq2seq: the decoder forgets while it speaks",
        "python/fusedrnn/nn/seq2seq.py",
        "a, state = link.call(a, call) a, weights",
        "a, _ = link.call(a, call)\n            a, weights",
        killer("seq2seq", "what_was_said_is_the_argmax_of_the_model"),
    ),
    Mutant(
        "seq2seq: batches of any target length",
        "python/fusedrnn/nn/_batches.py",
        "for of in (self.ends, self.lengths)",
        "for of in (self.lengths,)",
        killer("seq2seq", "targets_of_similar_length_come_together"),
    ),
    Mutant(
        "sampling: the temperature multiplies",
        "python/fusedrnn/nn/sampling.py",
        "(odds - best) / heat",
        "(odds - best) * heat",
        killer("seq2seq", "tokens_are_drawn_by_their_odds"),
    ),
    Mutant(
        "sampling: all classes that equal the last of top_k",
        "python/fusedrnn/nn/sampling.py",
        "above | (equal & (np.cumsum(equal, axis=-1) <= room))",
        "above | equal",
        killer("sample", "the_most_likely_classes_alone_are_drawn"),
    ),
    Mutant(
        "sampling: one number for all rows",
        "python/fusedrnn/nn/sampling.py",
        "generator.random(odds.shape[:-1])[..., None]",
        "generator.random()",
        killer("sample", "rows_are_drawn_one_after_the_other"),
    ),
)

# The text model and the command line.
RUNS = (
    Mutant(
        "a model's alphabet in any order",
        "python/fusedrnn/charlm/lm.py",
        "if alphabet.characters != characters:",
        "if False:",
        killer("lm", "what_is_wrong_with_a_model_is_said"),
    ),
    Mutant(
        "a loss of any size is no divergence",
        "python/fusedrnn/charlm/train.py",
        "and loss <= DIVERGED:",
        ":",
        killer("lm", "a_loss_beyond_all_bounds_is_divergence_too"),
    ),
    Mutant(
        "the carried state is not loaded",
        "python/fusedrnn/charlm/train.py",
        'self._position, self._state = place["position"], carried',
        'self._position, self._state = place["position"], None',
        killer("lm", "resumed_training_is_the_same", "reference"),
    ),
    Mutant(
        "a model of NaN is read",
        "python/fusedrnn/charlm/runfile.py",
        "if not np.isfinite(a).all()",
        "if False",
        killer("runfile", "parameters_that_are_not_finite_are_refused"),
    ),
    Mutant(
        "an archive with a header is ours",
        "python/fusedrnn/charlm/runfile.py",
        'if not isinstance(header, dict) or header.get("format") != FORMAT:',
        "if not ours:",
        killer("runfile", "foreign_files_are_refused"),
    ),
    Mutant(
        "a run is replaced without --force",
        "python/fusedrnn/cli/saving.py",
        "if path.stat().st_size and not replace:",
        "if False:",
        killer("cli", "a_second_run_does_not_replace_the_first"),
    ),
    Mutant(
        "--resume of one run replaces another",
        "python/fusedrnn/cli/session.py",
        "return os.path.samefile(out, resumed)",
        "return True",
        killer("cli", "a_second_run_does_not_replace_the_first"),
    ),
    Mutant(
        "what another program wrote is replaced",
        "python/fusedrnn/cli/saving.py",
        "if now is not None and now != self._seen:",
        "if False:",
        killer("cli", "two_processes_on_one_file"),
    ),
    Mutant(
        "the last update is not looked at before the save",
        "python/fusedrnn/cli/session.py",
        "not saved over a good one. self._trainer.check()",
        "not saved over a good one",
        killer("cli", "a_run_that_diverged_is_said_to_have_diverged"),
    ),
    Mutant(
        "no checkpoints",
        "python/fusedrnn/cli/session.py",
        "if share < 1.0 and self._every and",
        "if False and",
        killer("cli", "checkpoints_are_written_every_so_often"),
    ),
    Mutant(
        "a full disk loses the run",
        "python/fusedrnn/cli/saving.py",
        "for folder in _other_folders(self._folder):",
        "for folder in ():",
        killer("cli", "a_full_disk_at_the_save"),
    ),
    Mutant(
        "SIGTERM is not heard",
        "python/fusedrnn/cli/stops.py",
        "for number in ENDING}",
        "for number in ENDING if number != signal.SIGTERM}",
        killer("terminal", "a_container_that_stops_and_a_logout_save_as_ctrl_c_does"),
    ),
    Mutant(
        "a signal is lost while NumPy loads a module",
        "python/fusedrnn/cli/stops.py",
        'importlib.import_module("numpy.random")',
        'importlib.import_module("numpy")',
        killer("forecast_command", "no_signal_is_lost_while_numpy_loads_a_module"),
    ),
    Mutant(
        "a signal is lost at the end of a layer",
        "python/fusedrnn/_layers/params.py",
        "functools.partial(_ALIVE.pop, id(self))",
        "lambda _, number=id(self): _ALIVE.pop(number)",
        killer("writable", "the_end_of_a_layer_runs_no_python"),
    ),
    Mutant(
        "nohup is not obeyed",
        "python/fusedrnn/cli/stops.py",
        "usual = (signal.SIG_DFL, signal.default_int_handler)",
        "usual = (signal.SIG_DFL, signal.SIG_IGN, signal.default_int_handler)",
        killer("terminal", "nohup_is_obeyed"),
    ),
    Mutant(
        "a lost report is success",
        "python/fusedrnn/cli/session.py",
        "return code or self._lost.code",
        "return code",
        killer("terminal", "train_into_head_saves_the_model_and_says_that_the_report_is_lost"),
    ),
    Mutant(
        "a closed stream's number is given to the next file",
        "python/fusedrnn/cli/console.py",
        "_fill(number)",
        "pass",
        killer("terminal", "closed_streams_are_no_error"),
    ),
    Mutant(
        "a wrong variable stops the import",
        "python/fusedrnn/_backends/settings.py",
        "_environment_errors.append(str(error)) return otherwise",
        "raise",
        killer("terminal", "a_wrong_variable_is_told_in_a_line"),
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
        "without a pack: W_hh for W_hr",
        "csrc/outer/drive.hpp",
        "direction.w_hr = job.w_hr;",
        "direction.w_hr = job.w_hh;",
        killer("unpacked", "projections"),
    ),
    Mutant(
        "signals not polled",
        "csrc/outer/drive.hpp",
        "poll_();",
        "",
        killer("process", "ctrl_c", "forward-1"),
    ),
    Mutant(
        "a function takes an array of any layout as it is",
        "csrc/bind/plain.hpp",
        "(array.flags() & wanted) == wanted &&",
        "",
        killer("ops", "arguments_that_need_no_conversion_take_a_shorter_way"),
    ),
    Mutant(
        "an output may lie in the weights",
        "csrc/bind/job.hpp",
        "for (const PackedWeights* pack : packs) pack->each_array(body);",
        "",
        killer("core", "outputs_must_not_lie_in_the_weights"),
    ),
    Mutant(
        "reference: an output may lie in an input",
        "python/fusedrnn/_checks/arguments.py",
        "if any(np.may_share_memory(out, other) for other in others):",
        "if False:",
        killer("core", "outputs_must_not_share_memory", "reference"),
    ),
    Mutant(
        "a quick step lets masked rows go on",
        "csrc/bind/step.hpp",
        "if (live != nullptr) keep(live);",
        "",
        killer("quick_steps", "masks_resets_and_tokens_are_quick", "gru-1-False"),
    ),
    Mutant(
        "a quick step after a reset starts from zeros",
        "csrc/bind/step.hpp",
        "if (initial == nullptr)",
        "if (true)",
        killer("quick_steps", "masks_resets_and_tokens_are_quick", "gru-1-True"),
    ),
    Mutant(
        "a quick step takes any id",
        "csrc/bind/step.hpp",
        "return id >= 0 && id < job_.layout.input;",
        "return id >= 0 && id <= job_.layout.input;",
        killer("quick_steps", "flags_and_ids_in_other_forms"),
    ),
    Mutant(
        "a quick step takes a float64 that is too large",
        "csrc/bind/step.hpp",
        "fits = fits && (",
        "fits = fits || (",
        killer("quick_steps", "float64_for_a_float32_layer"),
    ),
    Mutant(
        "caches: L1 is taken for L2",
        "csrc/outer/caches.cpp",
        "found != level",
        "found + 1 != level",
        killer("runtime", "the_machine_is_asked_for_its_caches"),
    ),
    Mutant(
        "ensemble: the last member is left out",
        "csrc/outer/drive.hpp",
        "i < all.each.size();",
        "i + 1 < all.each.size();",
        killer("ensembles", "each_member_has_the_bits_of_its_own_call", "native and shared"),
    ),
    Mutant(
        "ensemble: a backward call of every member but the first keeps its block",
        "csrc/outer/drive.hpp",
        "call.block = block;",
        "calls.each[0].block = block;",
        killer("ensembles", "a_member_of_many_partial_sums"),
    ),
    Mutant(
        "ensemble: one thread computes all members",
        "csrc/outer/layout.cpp",
        "return static_cast<int>(std::min<Index>(members, std::min(most, worth)));",
        "return std::min(1, worth);",
        killer("ensembles", "threads_divide_the_members"),
    ),
    Mutant(
        "the GIL is kept",
        "csrc/bind/call.hpp",
        "const py::gil_scoped_release free; used = drive_forward<T>",
        "used = drive_forward<T>",
        killer("process", "the_gil_is_released", "forward"),
    ),
    Mutant(
        "padding of dx is not zero",
        "csrc/bind/call.hpp",
        "std::memset(made.mutable_data(), 0,",
        "std::memset(made.mutable_data(), 255,",
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
        killer("robustness", "core_verifies_sizes"),
    ),
    Mutant(
        "partial sums of other steps",
        "csrc/outer/layout.cpp",
        "out.partial_steps = std::max<Index>(1, kPartialRows / sharing);",
        "out.partial_steps = std::max<Index>(1, kPartialRows / 2 / sharing);",
        killer("rounding", "every_rounding", "rnn_tanh or gru"),
    ),
    Mutant(
        "a group's partial sums are those of the whole batch",
        "csrc/outer/layout.cpp",
        "call.group > 0 ? call.group : B);",
        "B);",
        killer("groups", "a_group_has_the_bits_of_its_own_call", "rnn_tanh and T525"),
    ),
    Mutant(
        "both directions at once: dx of one is lost",
        "csrc/outer/drive.hpp",
        "if (both && call.direction[0].dx != nullptr) add_dx(call);",
        "",
        killer("invariance", "directions_at_the_same_time", "rnn_tanh"),
    ),
    Mutant(
        "the ranks of a group are those of other rows",
        "csrc/outer/drive.hpp",
        "for (Index b = 0; b < batch; b += group)",
        "for (Index b = 0; b < group; b += batch)",
        killer("groups", "a_group_has_the_bits_of_its_own_call", "rnn_tanh and T525"),
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
        "|| !y.writeable() ||",
        "||",
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
        "tries < 0 && __atomic_load_n(&b.phase, __ATOMIC_ACQUIRE) == phase; ++tries",
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
        "csrc/inner/scan/forward.hpp",
        "(call, cell, d, thread / 2, (threads + 1 - d) / 2).run();",
        "(call, cell, d, thread / 2, threads).run();",
        killer("invariance", "directions_at_the_same_time"),
    ),
    Mutant(
        "normalised LSTM: gc dropped",
        "csrc/inner/scan/norm_forward.hpp",
        "fma(load(last + unit), stats.of(now), load(last + by.at_.padded + unit))",
        "stats.of(now) + load(last + by.at_.padded + unit)",
        killer("forward", "shapes", "native and lstm_norm"),
    ),
    Mutant(
        "normalised LSTM: c' carried on normalised",
        "csrc/inner/scan/norm_forward.hpp",
        "by.keep_c(s, at, unit, now, load(cell + unit));",
        "by.keep_c(s, at, unit, stats.of(now), load(cell + unit));",
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
        "s * pitch, x + h, static_cast<int>(pitch));",
        "s * pitch, x, static_cast<int>(pitch));",
        any_call(),
    ),
    Mutant(
        "columns of a transposed block change places",
        "csrc/inner/simd.hpp",
        "m[j] = zip_low(a, b); m[j + 1] = zip_high(a, b);",
        "m[j] = zip_high(a, b); m[j + 1] = zip_low(a, b);",
        killer("pack", "every_number_has_its_place"),
    ),
    Mutant(
        "lanes between slots that share vectors are left as they were",
        "csrc/inner/pack.hpp",
        "if (lanes < kLanes<T>) clear(to, to + stride * k);",
        "",
        killer("pack", "every_number_has_its_place"),
    ),
    Mutant(
        "what follows the last panel is left as it was",
        "csrc/inner/pack.hpp",
        "if (p + 1 == panels.count()) clear(to + stride * k, end);",
        "",
        killer("pack", "every_number_has_its_place"),
    ),
    Mutant(
        "the columns of a narrow panel end early",
        "csrc/inner/pack.hpp",
        "load_n(from + v, static_cast<int>(left - v))",
        "load_n(from + v, static_cast<int>(left - v - 1))",
        any_call(),
    ),
    Mutant(
        "without a pack: a piece goes on from the one before",
        "csrc/inner/weights.hpp",
        "for (Index v = 0; v < rows * sum_row; v += L) store(sum + v, vec<T>{});",
        "for (Index v = 0; k0 == 0 && v < rows * sum_row; v += L) store(sum + v, vec<T>{});",
        killer("unpacked", "bits_of_packed_weights"),
    ),
    Mutant(
        "without a pack: the last K index of a row is left out",
        "csrc/inner/weights.hpp",
        "chain(load(to + i * sum_row), x, m, n)",
        "chain(load(to + i * sum_row), x, m, n - 1)",
        killer("unpacked", "bits_of_packed_weights"),
    ),
    Mutant(
        "without a pack: a token takes another one's column",
        "csrc/inner/weights.hpp",
        "matrix_[(row + i) * k_ + at]",
        "matrix_[(row + i) * k_ + (at + 1) % k_]",
        killer("unpacked", "bits_of_packed_weights"),
    ),
    Mutant(
        "only the units of the first thread have a gradient of weights",
        "csrc/inner/scan/reduce.hpp",
        "weight_gradients(part, {v, least(together_, unit_.end - v)});",
        "if (thread_ == 0) weight_gradients(part, {v, least(together_, unit_.end - v)});",
        killer("core", "nothing_of_the_callers_gradients_is_read", "native and gru"),
    ),
    Mutant(
        "both directions at once: both walk the first",
        "csrc/inner/scan/reduce.hpp",
        "backward(call, cell, d, thread / 2, (threads + 1 - d) / 2);",
        "backward(call, cell, 0, thread / 2, (threads + 1 - d) / 2);",
        killer("invariance", "directions_at_the_same_time", "rnn_tanh"),
    ),
    Mutant(
        "a group begins with the totals of the one before it",
        "csrc/inner/scan/reduce.hpp",
        "clear(own_ + at_.bwd_db, own_ + at_.bwd_x + at_.bwd_thread);",
        "",
        killer("groups", "a_group_has_the_bits_of_its_own_call", "rnn_tanh and T3"),
    ),
    Mutant(
        "a group's last block is its whole gradient",
        "csrc/inner/scan/reduce.hpp",
        "const bool first = block_end_ == at_.steps;",
        "const bool first = true;",
        killer("groups", "a_group_has_the_bits_of_its_own_call", "rnn_tanh and T525"),
    ),
    Mutant(
        "a group takes its first ranks only",
        "csrc/inner/scan/rows.hpp",
        "if (i < last && r < rows.live(s)) return;",
        "if (list == nullptr && i < last && r < rows.live(s)) return;",
        killer("groups", "a_group_has_the_bits_of_its_own_call", "rnn_tanh and T525"),
    ),
    Mutant(
        "the vectors of a group are those of the first one",
        "csrc/inner/scan/reduce.hpp",
        "move(to.dp, cell_.info.vectors * at_.hidden);",
        "",
        killer("groups", "a_group_has_the_bits_of_its_own_call", "lstm_peephole and T3"),
    ),
    Mutant(
        "a reset forgets the gradient of the state that it put there",
        "csrc/inner/scan/backward_view.hpp",
        "put(to, take(to, real(k, unit)) + d, real(k, unit));",
        "put(to, d, real(k, unit));",
        killer("gradients", "options", "native and gru and reset"),
    ),
    Mutant(
        "dW_hr of a group from dy of other rows",
        "csrc/inner/scan/reduce.hpp",
        "copy(dy(from.s, from.r), dy_rows + q * at_.out_row, at_.out_row);",
        "copy(dy(from.s, 0), dy_rows + q * at_.out_row, at_.out_row);",
        killer("groups", "groups_of_a_projection_under_noise"),
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
        "csrc/inner/cells/slots.hpp",
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
        "if (came) chain = across(0, s + 1, r, unit, chain);",
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
        "return load(acc + w * next_acc + (i * G + k) * apart);",
        "return load(acc + w * next_acc + (i * G + k) * apart + (apart < L ? k : 0));",
        killer("forward", "shapes", "native"),
    ),
    Mutant(
        "y of a panel with lanes that are not real is left out",
        "csrc/inner/scan/epilogue.hpp",
        "const bool settle = by.settles_ || !(whole || by.at_.project);",
        "const bool settle = by.settles_;",
        killer("forward", "shapes", "native"),
    ),
    Mutant(
        "zoneout mixes c with the new c",
        "csrc/inner/scan/epilogue.hpp",
        "store(old_c + n, load(at.c + unit));",
        "store(old_c + n, V{});",
        killer("noise", "forward", "native and zoneout"),
    ),
    Mutant(
        "a settled step leaves the state that was cut",
        "csrc/inner/scan/forward_view.hpp",
        "store(at.c + unit, at.cut ? initial(1, at.rank, unit) : now);",
        "store(at.c + unit, now);",
        killer("forward", "options", "native and reset"),
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
        "const Operand<T> a{u(r), at_.state_row, 1, at_.hidden}; const Weights<T> late",
        "const Operand<T> a{this->h(s, r), at_.state_row, 1, at_.hidden}; const Weights<T> late",
        killer("forward", "shapes", "native and reset_before"),
    ),
    Mutant(
        "no barrier after a step",
        "csrc/inner/scan/forward.hpp",
        "if (recurrent(cell_.info)) wait();",
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
        "a partial sum that is the first of its block replaces the gradient",
        "csrc/inner/scan/reduce.hpp",
        "last_block && q == 0, at(q)",
        "q == 0, at(q)",
        killer("rounding", "every_rounding", "gru and float32"),
    ),
    Mutant(
        "the first partial sum is added to what the memory held",
        "csrc/inner/scan/reduce.hpp",
        "last_block && q == 0, at(q)",
        "false, at(q)",
        killer("core", "nothing_of_the_callers_gradients_is_read", "native and gru"),
    ),
    Mutant(
        "the last columns of a gradient: only one of them",
        "csrc/inner/scan/reduce.hpp",
        "for (Index k = 0; k < left; ++k)",
        "for (Index k = 0; k < 1; ++k)",
        any_call(),
    ),
    Mutant(
        "the last columns of a gradient: partial sums replace each other",
        "csrc/inner/scan/reduce.hpp",
        "to[k] = part.first ? sum : to[k] + sum;",
        "to[k] = sum;",
        killer("rounding", "every_rounding", "gru and float32"),
    ),
    Mutant(
        "a call without a valid step leaves its gradients as they were",
        "csrc/inner/scan/reduce.hpp",
        "if (rows_.before(at_.steps) == 0) no_rows(dir_);",
        "",
        killer("core", "nothing_of_the_callers_gradients_is_read", "native and gru and empty"),
    ),
    Mutant(
        "dR of the wrong slots",
        "csrc/inner/scan/reduce.hpp",
        "slots(part, u_, units, h_first_, early_, to.dw_hh);",
        "slots(part, u_, units, 0, early_ - h_first_, to.dw_hh);",
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

# The order is such that each kind is compiled once, with objects of the others that have no fault.
FILES_AND_WEIGHTS = (
    Mutant(
        "spellings: U and W change places",
        "python/fusedrnn/weights/_spellings.py",
        'return "h" if square["U"] else "x"',
        'return "x" if square["U"] else "h"',
        killer("spellings", "an_elman_network_and_its_output"),
    ),
    Mutant(
        "spellings: U of one shape with W reads x",
        "python/fusedrnn/weights/_spellings.py",
        'if square["U"] and square["W"]:',
        "if False:",
        killer("spellings", "u_and_w_of_one_shape"),
    ),
    Mutant(
        "spellings: A and B change places",
        "python/fusedrnn/weights/_spellings.py",
        'Spelling(_pair("B", "A", "b", "a"))',
        'Spelling(_pair("A", "B", "b", "a"))',
        killer("spellings", "an_elman_network_and_its_output"),
    ),
    Mutant(
        "spellings: one name twice",
        "python/fusedrnn/weights/_spellings.py",
        "if len(plain) < len(given):",
        "if False:",
        killer("spellings", "names_that_are_refused"),
    ),
    Mutant(
        "spellings: the output layer is not known",
        "python/fusedrnn/weights/_spellings.py",
        "if output and any(fits(one.layout, rest) for one in every):",
        "if False:",
        killer("spellings", "an_elman_network_and_its_output"),
    ),
    Mutant(
        "a file is written where the old one is",
        "python/fusedrnn/_storage.py",
        "temporary, file = _beside(target)",
        'temporary, file = target, open(target, "wb")',
        killer("files", "a_killed_save_leaves_the_old_file_or_the_new", "npz"),
    ),
    Mutant(
        "what a killed process left is never removed",
        "python/fusedrnn/_storage.py",
        "_remove_leftovers(target)\n        temporary",
        "temporary",
        killer("files", "a_killed_save_leaves_the_old_file_or_the_new", "npz"),
    ),
    Mutant(
        "what another process writes is taken for a leftover",
        "python/fusedrnn/_storage.py",
        "if _lock(handle):",
        "if _lock(handle) is not None:",
        killer("files", "leftovers_of_the_dead_alone_are_removed"),
    ),
    Mutant(
        "devices are replaced by files",
        "python/fusedrnn/_storage.py",
        "return not stat.S_ISREG(mode)",
        "return stat.S_ISCHR(mode) and False",
        killer("files", "devices_and_pipes_are_written_to"),
    ),
    Mutant(
        "a full disk is reported for a name that nobody knows",
        "python/fusedrnn/_storage.py",
        "os.strerror(error.errno), os.fspath(path)) from error",
        "os.strerror(error.errno), error.filename) from error",
        killer("files", "a_save_that_may_not_write_so_much_leaves_the_old_file", "npz"),
    ),
    Mutant(
        "files have a date in them",
        "python/fusedrnn/_npz.py",
        'info = zipfile.ZipInfo(f"{name}.npy")',
        'import time; info = zipfile.ZipInfo(f"{name}.npy", time.localtime(time.time())[:6])',
        killer("files", "equal_content_gives_equal_bytes"),
    ),
    Mutant(
        "numbers in files have the machine's byte order",
        "python/fusedrnn/_npz.py",
        'array.dtype.newbyteorder("<")',
        'array.dtype.newbyteorder(">")',
        killer("files", "a_file_is_a_plain_npz"),
    ),
    Mutant(
        "names that NumPy takes for one are written",
        "python/fusedrnn/_npz.py",
        'both = {f"{name}.npy" for name in names} & set(names)',
        "both: set[str] = set()",
        killer("weight_files", "no_name_is_lost"),
    ),
    Mutant(
        "a layer of a class of one's own is saved as another",
        "python/fusedrnn/files.py",
        "if made is not type(part):",
        "if made is None:",
        killer("files", "what_cannot_be_saved_is_refused"),
    ),
    Mutant(
        "any name of a module is a kind",
        "python/fusedrnn/files.py",
        "if match[2] in module.__all__ else None",
        "if hasattr(module, match[2]) else None",
        killer("files", "kinds_are_of_a_fixed_list"),
    ),
    Mutant(
        "parameters of another type are converted on the way in",
        "python/fusedrnn/files.py",
        "if array.dtype != state[key].dtype:",
        "if array.shape != state[key].shape:",
        killer("files", "every_field_of_a_file_is_checked"),
    ),
    Mutant(
        "a part's name is a folder",
        "python/fusedrnn/files.py",
        'quote(part, safe=" ", errors="surrogatepass")',
        'quote(part, safe=" /", errors="surrogatepass")',
        killer("files", "any_name_of_a_layer_is_kept"),
    ),
    Mutant(
        "the state of any optimiser is loaded into any",
        "python/fusedrnn/files.py",
        "if header.optimizer != wanted:",
        "if header.optimizer is None:",
        killer("files", "an_optimiser_that_does_not_fit_is_refused"),
    ),
    Mutant(
        "a loaded layer's forget gates start anew",
        "python/fusedrnn/_layers/layer.py",
        "if self.forget_bias is not None and not isinstance(seed, Restored):",
        "if self.forget_bias is not None:",
        killer("files", "a_layer_comes_back_in_every_bit", "forget_bias"),
    ),
    Mutant(
        "a file forgets the cell",
        "python/fusedrnn/weights/_files.py",
        "return known if isinstance(known, str) else None",
        "return None",
        killer("weight_files", "a_file_knows_the_cell"),
    ),
    Mutant(
        "one of two equal names is dropped",
        "python/fusedrnn/weights/_flax.py",
        "for twice in flat.keys() & part.keys():",
        "for twice in ():",
        killer("weight_files", "equal_names_are_refused_before_anything_is_written"),
    ),
    Mutant(
        "weights are converted whatever their cell",
        "python/fusedrnn/weights/_stack.py",
        'if isinstance(known, str) and known.partition("(")[0] != cell:',
        'if isinstance(known, str) and known.partition("(")[0] != known:',
        killer("weights", "conversions_know_the_cell"),
    ),
    Mutant(
        "bfloat16 is read as a whole number",
        "python/fusedrnn/weights/_safetensors.py",
        "array = (array.astype(np.uint32) << 16).view(np.float32)",
        "array = array.astype(np.float32)",
        killer("weight_files", "safetensors_of_others"),
    ),
    Mutant(
        "two tensors of a safetensors may overlap",
        "python/fusedrnn/weights/_safetensors.py",
        "if place.begin != at:",
        "if place.begin > at:",
        killer("weight_files", "safetensors_that_somebody_made"),
    ),
    Mutant(
        "Keras's backward layer comes first",
        "python/fusedrnn/weights/_keras.py",
        'SIDES = ("forward_layer", "backward_layer")',
        'SIDES = ("backward_layer", "forward_layer")',
        killer("weight_files", "files_of_keras"),
    ),
    Mutant(
        "Keras's variable 10 comes before 2",
        "python/fusedrnn/weights/_keras.py",
        'return [int(t) if k % 2 else t for k, t in enumerate(re.split(r"(\\d+)", name))]',
        "return [name]",
        killer("weight_files", "files_of_older_versions_of_keras_3"),
    ),
    Mutant(
        "an HDF5 file may lead to another",
        "python/fusedrnn/weights/_keras.py",
        "if not isinstance(group.get(name, getlink=True), self._h5py.HardLink):",
        "if name not in group:",
        killer("weight_files", "what_an_hdf5_file_must_not_do"),
    ),
    Mutant(
        "float16 stays as narrow as it came",
        "python/fusedrnn/_foreign.py",
        'narrow = a.dtype.kind == "f" and a.dtype.itemsize < 4',
        "narrow = False",
        killer("foreign", "narrow_floats_are_widened"),
    ),
)

# --- fusedrnn.torch ---

TORCH = (
    Mutant(
        "torch: a pack is trusted without a look",
        "python/fusedrnn/torch/_packs.py",
        "if (self.frozen and not _learning(tensors)) or held.packed.matches(held.arrays):",
        "if True:",
        ("tests/torch_adapter/test_torch_weights.py::test_no_change_is_missed",),
    ),
    Mutant(
        "torch: a pack is renewed under a living graph",
        "python/fusedrnn/torch/_packs.py",
        "if not self._saved:  # if there is one",
        "if True:  # if there is one",
        (
            "tests/torch_adapter/test_torch_weights.py"
            "::test_backward_has_the_weights_of_its_forward",
        ),
    ),
    Mutant(
        "torch: a frozen layer that learns does not look",
        "python/fusedrnn/torch/_packs.py",
        "if (self.frozen and not _learning(tensors))",
        "if (self.frozen)",
        (
            "tests/torch_adapter/test_torch_weights.py"
            "::test_frozen_layers_see_new_tensors_and_train",
        ),
    ),
    Mutant(
        "torch: transforms are not noticed",
        "python/fusedrnn/torch/_route.py",
        "if _peek() is not None:",
        "if False:",
        ("tests/torch_adapter/test_torch_routes.py::test_who_computes",),
    ),
    Mutant(
        "torch: dropout on padded rows",
        "python/fusedrnn/torch/_layers.py",
        "if how is None or how.rows is None:",
        "if True:",
        ("tests/torch_adapter/test_torch_layers.py::test_dropout_is_drawn_as_torch_draws_it",),
    ),
    Mutant(
        "torch: what backward needs outlives it",
        "python/fusedrnn/torch/_recurrence.py",
        "ctx.call, ctx.plan = call, out.plan",
        "ctx.call, ctx.plan, ctx.out = call, out.plan, out",
        ("tests/torch_adapter/test_torch_graph.py::test_memory_is_freed_after_backward",),
    ),
)

# --- fusedrnn.jax ---


def jax_killer(file: str, function: str, select: str = "") -> tuple[str, ...]:
    path = f"tests/jax_adapter/test_jax_{file}.py::test_{function}"
    return (path, *(("-k", select) if select else ()))


JAX = (
    Mutant(
        "jax: members do not share a gradient",
        "python/fusedrnn/jax/_operations.py",
        "shared = call.members is not None and not call.mapped[k]",
        "shared = False",
        jax_killer("transforms", "an_ensemble_that_shares_some_weights"),
    ),
    Mutant(
        "jax: vmap takes its axis apart in another order",
        "python/fusedrnn/jax/_operations.py",
        "a.reshape(*a.shape[:axis], size, -1, *a.shape[axis + 1 :])",
        "a.reshape(*a.shape[:axis], -1, size, *a.shape[axis + 1 :])",
        jax_killer("transforms", "vmap_over_sequences_is_one_call", "rnn and plain"),
    ),
    Mutant(
        "jax: vmap of grad sums the gradients of weights",
        "python/fusedrnn/jax/_operations.py",
        'wanted = any(call.roles[k] == "weight" for k in wrt)',
        "wanted = False",
        jax_killer("transforms", "vmap_of_grad_gives_each_its_own", "gru"),
    ),
    Mutant(
        "jax: members of members in another order",
        "python/fusedrnn/jax/_operations.py",
        "a = jnp.broadcast_to(a[:, None], (size, inner, *a.shape[1:]))",
        "a = jnp.broadcast_to(a[None], (inner, size, *a.shape[1:]))",
        jax_killer("transforms", "nested_vmap"),
    ),
    Mutant(
        "jax: every gradient is computed",
        "python/fusedrnn/jax/_kernels.py",
        'self.want = frozenset(want | {"states"} if self.to_states else want)',
        "self.want = None",
        jax_killer("transforms", "only_the_gradients_that_are_needed"),
    ),
    Mutant(
        "jax: a call without a derivative saves",
        "python/fusedrnn/jax/_functions.py",
        "call=call, save=False)",
        "call=call, save=True)[: 1 + packed.spec.states]",
        jax_killer("transforms", "a_call_without_a_derivative_saves_nothing"),
    ),
    Mutant(
        "jax: gradients of devices are not summed",
        "python/fusedrnn/jax/_mesh.py",
        "_varying(a, tuple(every - own)) if every - own else a",
        "a",
        jax_killer("processes", "meshes"),
    ),
    Mutant(
        "jax: a failed call keeps its share of the threads",
        "python/fusedrnn/jax/_kernels.py",
        "finally: _leave()",
        "finally:\n            pass",
        jax_killer("errors", "errors_of_a_call_reach_the_caller"),
    ),
    Mutant(
        "jax: NaN in padding reaches the scan",
        "python/fusedrnn/jax/_scan.py",
        "x = jnp.where(valid[..., None], x, 0)",
        "x = x * 1",
        jax_killer("scan", "the_scan_of_every_cell", "rnn-mask"),
    ),
    Mutant(
        "jax: the reverse direction of the scan cuts other links",
        "python/fusedrnn/jax/_scan.py",
        "if cut is not None and d:",
        "if cut is not None and not d:",
        jax_killer("scan", "the_scan_of_every_cell", "before-reset"),
    ),
    Mutant(
        "jax: operands can be written",
        "csrc/bind/xla.hpp",
        "arrays(frame.operands, false)",
        "arrays(frame.operands, true)",
        jax_killer("errors", "inputs_are_read_only"),
    ),
    Mutant(
        "jax: the interpreter ends under a running call",
        "python/fusedrnn/jax/_foreign_call.py",
        "atexit.register(_core.xla_close, os.getpid())",
        "os.getpid()",
        jax_killer("processes", "a_process_ends_while_a_call_runs"),
    ),
    Mutant(
        "jax: an interrupt is an error of XLA",
        "csrc/bind/xla.hpp",
        "if (raised.matches(PyExc_Exception))",
        "if (true)",
        jax_killer("processes", "ctrl_c_while_a_call_runs"),
    ),
)

# --- fusedrnn.inspect ---

KERAS = (
    Mutant(
        "keras: the gates of the GRU are those of another order",
        "python/fusedrnn/keras/_walks.py",
        "return xp.concatenate([r, z, n])",
        "return xp.concatenate([z, r, n])",
        ("tests/keras_adapter/test_keras_layers.py::test_outputs", "-k", "GRU-plain"),
    ),
    Mutant(
        "keras: the gradient of a masked step stays there",
        "python/fusedrnn/keras/_walks.py",
        "dy = _repeated_back(dy, given.mask)",
        "dy = dy * 1",
        ("tests/keras_adapter/test_keras_layers.py::test_gradients",),
    ),
    Mutant(
        "keras: a mask is not turned with its sequence",
        "python/fusedrnn/keras/_layers.py",
        "mask = None if mask is None else keras.ops.flip(mask, axis=1)",
        "pass",
        ("tests/keras_adapter/test_keras_layers.py::test_outputs", "-k", "LSTM-backwards-gaps"),
    ),
    Mutant(
        "keras: a pack is that of other recurrent weights",
        "python/fusedrnn/keras/_walks.py",
        "all(map(_equal, self.arrays, other.arrays))",
        "_equal(self.arrays[0], other.arrays[0])",
        ("tests/keras_adapter/test_keras_layers.py::test_weights_that_differ_in_one_number",),
    ),
    Mutant(
        "keras: the copies that packs are found by are not counted",
        "python/fusedrnn/core/_cache.py",
        'return packed.nbytes + int(getattr(key, "nbytes", 0))',
        "return packed.nbytes",
        killer("core", "the_cache_takes_keys_of_ones_own"),
    ),
    Mutant(
        "keras: a key changes with the arrays",
        "python/fusedrnn/keras/_walks.py",
        "tuple(None if a is None else a.copy() for a in self.arrays)",
        "self.arrays",
        ("tests/keras_adapter/test_keras_layers.py::test_weights_that_differ_in_one_number",),
    ),
    Mutant(
        "keras: torch compiles a model whose report says fused",
        "python/fusedrnn/keras/_layers.py",
        'in ("tensorflow", "torch")',
        'in ("tensorflow",)',
        ("tests/keras_adapter/test_keras_layers.py::test_compile_with_jit_goes_on_without",),
    ),
    Mutant(
        "keras: an accelerated model is still compiled",
        "python/fusedrnn/keras/_models.py",
        "model.jit_compile = True  #",
        "pass  #",
        ("tests/keras_adapter/test_keras_layers.py::test_compile_with_jit_goes_on_without",),
    ),
    Mutant(
        "keras: the states of a stateful layer are not copied",
        "python/fusedrnn/keras/_torch.py",
        "*(state.clone() for state in states)",
        "*states",
        ("tests/keras_adapter/test_keras_layers.py::test_a_stateful_layer_is_trained",),
    ),
    Mutant(
        "keras: masks of dropout for each gate are taken for one",
        "python/fusedrnn/keras/_job.py",
        'if noisy and getattr(cell, "implementation", 2) == 1:',
        "if False:",
        ("tests/keras_adapter/test_keras_layers.py::test_what_takes_keras_own_loop",),
    ),
)

INSPECT = (
    Mutant(
        "inspect: the gradient of y counts at padded steps",
        "python/fusedrnn/inspect/_gradients.py",
        "np.where(at, dy[t], dy.dtype.type(0))",
        "dy[t]",
        killer("inspect", "gradients_of_h_are_central_differences", "reference and lstm"),
    ),
    Mutant(
        "inspect: dx of the reverse direction in its own order",
        "python/fusedrnn/inspect/_gradients.py",
        "dx = dx if d == 0 else turned(dx, one.lengths)",
        "dx = dx",
        killer("inspect", "gradients_of_h_are_central_differences", "reference and gru"),
    ),
    Mutant(
        "inspect: only one direction's dx reaches the layer below",
        "python/fusedrnn/inspect/_gradients.py",
        "dx if below is None else below + dx",
        "dx",
        killer("inspect", "gradients_of_h_are_central_differences", "reference and gru"),
    ),
    Mutant(
        "inspect: the carried gradient of c without zoneout",
        "python/fusedrnn/inspect/_gradients.py",
        "(1 - rate_c) * carried",
        "carried",
        killer("inspect", "gradients_of_c_follow_from_those_of_x", "reference"),
    ),
    Mutant(
        "inspect: the way from c to h without zoneout",
        "python/fusedrnn/inspect/_gradients.py",
        "(1 - rate_h) * dh",
        "dh",
        killer("inspect", "gradients_of_c_follow_from_those_of_x", "reference"),
    ),
    Mutant(
        "inspect: h reads c after zoneout",
        "python/fusedrnn/inspect/_gradients.py",
        'gates["f"] * one.before[1] + gates["i"] * gates["g"]',
        "one.saved.cells[0]",
        killer("inspect", "gradients_of_c_follow_from_those_of_x", "reference"),
    ),
    Mutant(
        "inspect: the gradient of c without the peephole of o",
        "python/fusedrnn/inspect/_gradients.py",
        "if piece.peepholes:",
        "if False:",
        killer("inspect", "gradients_of_c_follow_from_those_of_x", "reference and peephole"),
    ),
    Mutant(
        "inspect: the gradient of c through LN without its slope",
        "python/fusedrnn/inspect/_gradients.py",
        "- ln * slope)",
        ")",
        killer("inspect", "gradients_are_those_of_autograd", "reference and lstm_norm"),
    ),
    Mutant(
        "inspect: squares of small gradients underflow",
        "python/fusedrnn/inspect/_gradients.py",
        "usable = np.isfinite(largest) & (largest > 0)",
        "usable, largest = largest >= 0, np.ones_like(largest)",
        killer("inspect", "extreme_gradients_have_norms"),
    ),
    Mutant(
        "inspect: Jacobians in the wrong order",
        "python/fusedrnn/inspect/_jacobians.py",
        "product @ step_jacobian(one, t)",
        "step_jacobian(one, t) @ product",
        killer("inspect", "products_of_an_rnn_are_the_formula"),
    ),
    Mutant(
        "inspect: only real eigenvalues have a radius",
        "python/fusedrnn/inspect/_jacobians.py",
        "np.abs(np.linalg.eigvals(matrices))",
        "np.abs(np.linalg.eigvals(matrices).real)",
        killer("inspect", "spectral_radius"),
    ),
    Mutant(
        "inspect: the reverse direction reads forwards",
        "python/fusedrnn/inspect/_pieces.py",
        "return a[::-1]",
        "return a",
        killer("inspect", "full_lengths_are_no_lengths"),
    ),
    Mutant(
        "inspect: dropout of the call that a loss reads",
        "python/fusedrnn/inspect/_pieces.py",
        "tokens=tokens, lengths=lengths, noise=False)",
        "tokens=tokens, lengths=lengths)",
        killer("inspect", "forms_of_a_loss"),
    ),
    Mutant(
        "inspect: padding is saturated",
        "python/fusedrnn/inspect/_activity.py",
        "_saturation(a[one.real],",
        "_saturation(a,",
        killer("inspect", "saturation_counts"),
    ),
    Mutant(
        "inspect: components without a sign",
        "python/fusedrnn/inspect/_activity.py",
        "np.sign(components[np.arange(k), at])",
        "np.ones(k)",
        killer("inspect", "project"),
    ),
    Mutant(
        "inspect: padding counts in the mean of a plot",
        "python/fusedrnn/inspect/plot.py",
        "total / np.maximum(count, 1)",
        "total / a.shape[2]",
        killer("inspect", "plot_of_gradient_norms"),
    ),
    Mutant(
        "inspect: heat maps have time downwards",
        "python/fusedrnn/inspect/plot.py",
        "one.imshow( a.T,",
        "one.imshow(a,",
        killer("inspect", "plot_of_gates"),
    ),
)

FORECASTS = (
    Mutant(
        "forecasting: autocorrelation of unequal parts",
        "python/fusedrnn/forecasting/series.py",
        "centred[k:] * centred[: n - k]) / power",
        "centred[k:] * centred[k:]) / power",
        killer("forecasting", "autocorrelation"),
    ),
    Mutant(
        "forecasting: a season without a limit",
        "python/fusedrnn/forecasting/series.py",
        "if best and r[best] > limits[best] else 1",
        "if best else 1",
        killer("forecasting", "the_limit_is_bartletts"),
    ),
    Mutant(
        "forecasting: windows one step late",
        "python/fusedrnn/forecasting/series.py",
        "return whole[:, :window], whole[:, window:]",
        "return whole[:, 1 : window + 1], whole[:, window:]",
        killer("forecasting", "windows"),
    ),
    Mutant(
        "forecasting: the statistic of KPSS without its variance's lags",
        "python/fusedrnn/forecasting/series.py",
        "variance = products[0] + 2 * sum(",
        "variance = products[0] + 0 * sum(",
        killer("forecasting", "trends"),
    ),
    Mutant(
        "forecasting: differences undone from the wrong steps",
        "python/fusedrnn/forecasting/scaling.py",
        "past = self._levels(values[len(values) - self.lag :])",
        "past = self._levels(values[: self.lag])",
        killer("forecasting", "a_scaling_is_undone"),
    ),
    Mutant(
        "forecasting: differences not summed",
        "python/fusedrnn/forecasting/scaling.py",
        "np.cumsum(padded.reshape(rows, self.lag), axis=0)",
        "padded.reshape(rows, self.lag)",
        killer("forecasting", "a_scaling_is_undone"),
    ),
    Mutant(
        "forecasting: rounding blown up",
        "python/fusedrnn/forecasting/scaling.py",
        "return np.zeros_like(z), centre, 0.0",
        "spread = spread or 1.0",
        killer("forecasting", "scalings_of_a_line_and_of_growth_are_zeros"),
    ),
    Mutant(
        "forecasting: logarithms wherever they can be",
        "python/fusedrnn/forecasting/_forecast.py",
        "log = bool(np.all(values > 0)) and _deviation(",
        "log = bool(np.all(values > 0)) or _deviation(",
        killer("forecasting", "scalings_are_chosen"),
    ),
    Mutant(
        "forecasting: the choice sees the back-test",
        "python/fusedrnn/forecasting/_forecast.py",
        "scalings = choose_scalings(y[:first], horizon, chosen, width)",
        "scalings = choose_scalings(y[-30:], horizon, chosen, width)",
        killer("forecasting", "the_back_test_does_not_see_what_comes_later"),
    ),
    Mutant(
        "forecasting: MASE's scale sees the back-test",
        "python/fusedrnn/forecasting/_forecast.py",
        "scale = naive_scale(y[:first], chosen)",
        "scale = naive_scale(y, chosen)",
        killer("forecasting", "a_forecast_is_what_its_parts_give"),
    ),
    Mutant(
        "forecasting: intervals of plain errors",
        "python/fusedrnn/forecasting/_forecast.py",
        "residuals = alike.to_errors(actual) - alike.to_errors(found[NETWORK])",
        "residuals = actual - found[NETWORK]",
        killer("forecasting", "intervals_of_logarithms_are_positive"),
    ),
    Mutant(
        "forecasting: one value too few is enough",
        "python/fusedrnn/forecasting/_forecast.py",
        "beside = season + horizon + FEWEST_WINDOWS - 1",
        "beside = season + horizon + FEWEST_WINDOWS - 2",
        killer("forecasting", "a_series_that_is_too_short_says_how_many_values_are_needed"),
    ),
    Mutant(
        "forecasting: the worst baseline first",
        "python/fusedrnn/forecasting/_forecast.py",
        "return sorted(names, key=lambda name: self.errors[name].mae)",
        "return names",
        killer("forecast_command", "the_verdict_is_plain"),
    ),
    Mutant(
        "forecasting: the last season from its start",
        "python/fusedrnn/forecasting/baselines.py",
        "values[len(values) - season + np.arange(horizon) % season]",
        "values[len(values) - 1 - np.arange(horizon) % season]",
        killer("forecasting", "naive_methods"),
    ),
    Mutant(
        "forecasting: AICc without its correction",
        "python/fusedrnn/forecasting/baselines.py",
        "2 * count * rows / (rows - count - 1)",
        "2 * count",
        killer("forecasting", "autoregression_is_least_squares_of_the_order_with_the_least_aicc"),
    ),
    Mutant(
        "forecasting: an autoregression that reads its steps in the wrong order",
        "python/fusedrnn/forecasting/baselines.py",
        "before = series[t - order : t][::-1]",
        "before = series[t - order : t]",
        killer("forecasting", "an_autoregression_reads_its_own_forecasts"),
    ),
    Mutant(
        "forecasting: a back-test that sees one step more",
        "python/fusedrnn/forecasting/backtesting.py",
        "np.asarray(method(values[:origin]), np.float64)",
        "np.asarray(method(values[: origin + 1]), np.float64)",
        killer("forecasting", "a_back_test_sees_the_past_alone"),
    ),
    Mutant(
        "forecasting: a rank of K, not of K + 1",
        "python/fusedrnn/forecasting/backtesting.py",
        "math.ceil((count + 1) * coverage - 1e-9)",
        "math.ceil(count * coverage - 1e-9)",
        killer("forecasting", "conformal_intervals_hold_what_they_promise"),
    ),
    Mutant(
        "forecasting: networks of one seed",
        "python/fusedrnn/forecasting/networks.py",
        "seed=(seed, member)",
        "seed=(seed, 0)",
        killer("forecasting", "networks_are_averaged"),
    ),
    Mutant(
        "forecasting: blanks around names",
        "python/fusedrnn/cli/table.py",
        "names = [name.strip() for name in next(rows)[1]]",
        "names = [name for name in next(rows)[1]]",
        killer("forecast_command", "tables"),
    ),
    Mutant(
        "forecasting: gaps that are skipped",
        "python/fusedrnn/cli/table.py",
        "table = list(rows)",
        "table = [(line, cells) for line, cells in rows if any(cells)]",
        killer("forecast_command", "what_is_wrong_with_a_table_is_said"),
    ),
    Mutant(
        "forecasting: numbers with underscores",
        "python/fusedrnn/cli/table.py",
        "(\\d+\\.?\\d*|",
        "([0-9_]+\\.?\\d*|",
        killer("forecast_command", "what_is_wrong_with_a_table_is_said"),
    ),
    Mutant(
        "forecasting: years that are a series",
        "python/fusedrnn/cli/table.py",
        "if len(numeric) == 1 or not _counts(table, k)",
        "if len(numeric) == 1 or k >= 0",
        killer("forecast_command", "tables"),
    ),
    Mutant(
        "forecasting: a file that appears meanwhile is lost",
        "python/fusedrnn/cli/outputs.py",
        "self._refuse_old() with replacing(self.path) as stream:",
        "with replacing(self.path) as stream:",
        killer("forecast_command", "a_file_that_appears_during_the_work_stays"),
    ),
    Mutant(
        "forecasting: the input is overwritten",
        "python/fusedrnn/cli/forecast.py",
        "if len(set(real.values())) < len(real):",
        "if not real:",
        killer("forecast_command", "the_input_is_never_overwritten"),
    ),
)

# The course and the examples of docstrings: what runs them, and what they say of the project.
COURSE = (
    Mutant(
        "course: short runs always",
        "docs/course/run.py",
        "if quick: exec(",
        "if True:\n                exec(",
        killer("course", "output_is_renewed_and_quick_lines_run"),
    ),
    Mutant(
        "course: checks that decide nothing",
        "docs/course/run.py",
        'assert eval(part["note"], names),',
        'assert eval(part["note"], names) or True,',
        killer("course", "a_check_that_is_not_true_names_its_line"),
    ),
    Mutant(
        "course: checks of full runs in short ones",
        "docs/course/run.py",
        'startswith("full " if quick else "quick ")',
        'startswith("quick " if quick else "full ")',
        killer("course", "output_is_renewed_and_quick_lines_run"),
    ),
    Mutant(
        "course: output stays old",
        "docs/course/run.py",
        'new += [text[end : part.start("shown")], printed.getvalue()]',
        'new += [text[end : part.end("shown")]]',
        killer("course", "output_is_renewed_and_quick_lines_run"),
    ),
    Mutant(
        "course: the data of the page itself",
        "docs/course/run.py",
        "names.update({k: v for k, v in options.items() if k in names})",
        "pass",
        killer("course", "output_is_renewed_and_quick_lines_run"),
    ),
    Mutant(
        "course: plots of all colours",
        "docs/course/run.py",
        "quantize(64)",
        "quantize(256)",
        killer("course", "a_plot_is_saved_with_few_colours"),
    ),
    Mutant(
        "course: a test that does not exist",
        "docs/course/index.md",
        "`test_weights.py::test_the_sign_of_z`",
        "`test_weights.py::test_the_sign_of_r`",
        killer("course", "every_row_of_the_course_has_a_page_and_a_test"),
    ),
    Mutant(
        "course: the test of a page that does not exist",
        "docs/course/index.md",
        "`test_course.py::test_a_page_runs[long-memory]`",
        "`test_course.py::test_a_page_runs[memory]`",
        killer("course", "every_row_of_the_course_has_a_page_and_a_test"),
    ),
    Mutant(
        "course: a page that no row names",
        "docs/course/index.md",
        "[Music](music.md)",
        "[Music](names.md)",
        killer("course", "every_page_of_the_course_is_in_its_table"),
    ),
    Mutant(
        "course: a line less than the program has",
        "docs/course/keras.md",
        "| forecasting | 4 | 6 |",
        "| forecasting | 3 | 6 |",
        killer("course", "the_lines_of_the_programs_are_counted"),
    ),
    Mutant(
        "examples: a wrong result",
        "python/fusedrnn/nn/last.py",
        "[[4.0], [5.0]]",
        "[[4.0], [6.0]]",
        killer("examples", "the_example_runs", "nn.last"),
    ),
    Mutant(
        "examples: one that is passed over",
        "python/fusedrnn/nn/last.py",
        ">>> layer(x).tolist()",
        ">>> layer(x).tolist()  # doctest: +SKIP",
        killer("examples", "no_example_is_passed_over"),
    ),
    Mutant(
        "examples: a public name without one",
        "python/fusedrnn/nn/last.py",
        "    Examples\n    --------\n    >>> import numpy as np\n    >>> from fusedrnn import nn\n"
        "    >>> layer, x = nn.Last()",
        "    >>> import numpy as np\n    >>> from fusedrnn import nn\n    >>> layer, x = nn.Last()",
        killer("examples", "every_public_name_has_an_example", "fusedrnn.nn"),
    ),
    Mutant(
        "reference: metrics on no page",
        "docs/reference/nn.md",
        "::: fusedrnn.nn.metrics",
        "fusedrnn.nn.metrics",
        killer("examples", "every_public_name_is_on_a_reference_page"),
    ),
)

MUTANTS = (
    *PYTHON,
    *LAYERS,
    *MODELS,
    *PARTS,
    *CHAINS,
    *RUNS,
    *OUTER,
    *FILES_AND_WEIGHTS,
    *INNER,
    *ADAPTERS,
    *INSPECT,
    *FORECASTS,
    *COURSE,
    *TORCH,
    *JAX,
    *KERAS,
)


class Workshop:
    """A copy of the tree with a build folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.tree, self.build = folder / "tree", folder / "build"
        ignored = shutil.ignore_patterns("__pycache__", "_core*.so", "_core*.pyd")
        for name in FOLDERS:
            shutil.copytree(ROOT / name, self.tree / name, ignore=ignored)
        (self.tree / "python/fusedrnn/_build.py").unlink(missing_ok=True)  # written by the build
        for name in FILES:
            shutil.copy2(ROOT / name, self.tree / name)
        # The tools of this environment come first, whether or not it is activated.
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
        """Run a command in the tree; returns its status (-SIGKILL after the timeout) and output."""
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
        """The tree with a fault; yields whether it compiles."""
        path = self.tree / mutant.file
        honest, stat = path.read_text(), path.stat()
        path.write_text(mutant.planted(self.tree))
        if mutant in INNER:  # with the old time stamps only the missing object is compiled
            os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
            for built in self.build.glob(f"CMakeFiles/isa_{isa}_*/csrc/inner/isa/{isa}.cpp.o"):
                built.unlink()
        yield self.compile() if mutant.file.startswith("csrc/") else True
        path.write_text(honest)
        if mutant in INNER:
            os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))

    def test(self, tests: tuple[str, ...]) -> tuple[int, str]:
        pytest = (sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider")
        return self.run(*pytest, *tests, timeout=TIMEOUT)


def verdict(status: int, text: str) -> tuple[bool, str]:
    """Whether the fault was killed, and by which test."""
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
