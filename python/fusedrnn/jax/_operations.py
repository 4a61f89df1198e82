"""The operations of JAX behind the functions: a forward call, its derivative, a backward call.

`forward_p` computes y and the last states, and, with `save`, what the backward call needs. Its
derivative is `tangent_p`, an operation that is linear in the tangents, and the transpose of that is
`backward_p`. They are operations of their own, and no ``jax.custom_vjp``, for three reasons: vmap
inside grad then makes one call on a larger batch and one sum for the weights' gradients, where a
custom_vjp gives one gradient for each row and adds them afterwards; only the gradients that are
needed are computed; and forward-mode and second derivatives work.

On the CPU the operations are foreign calls of the kernels. On other platforms, and for derivatives
other than the first reverse one, they are `_scan`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from . import _call, _foreign_call, _scan
from ._call import DIFFERENTIABLE, Call
from ._mesh import varying_over_mesh

Array = Any  # the type checker does not read jax
Arrays = Sequence[Any]


# --- the operations -------------------------------------------------------------------------------


def _forward_results(*operands: Any, call: Call, save: bool) -> list[_call.Array]:
    found = _call.forward_results(call, operands)
    return found + _call.residuals(call, operands) if save else found


def _tangent_results(*operands: Any, call: Call, wrt: tuple[int, ...]) -> list[_call.Array]:
    return _call.forward_results(call, operands)


def _backward_results(*operands: Any, call: Call, wrt: tuple[int, ...]) -> list[_call.Array]:
    return _call.gradients(call, wrt, operands)


Results = Callable[..., list[_call.Array]]


def _operation(name: str, results: Results, scan: Callable[..., list[Any]]) -> Any:
    """Return a new operation: the shapes of its results, and what it is on every platform."""
    made = Primitive(name)
    made.multiple_results = True

    def types(*avals: Any, **params: Any) -> list[Any]:
        found = results(*avals, **params)
        return [varying_over_mesh(one.shape, one.dtype, avals) for one in found]

    @lru_cache(maxsize=1024)
    def compiled(**params: Any) -> Any:
        return jax.jit(partial(made.bind, **params))

    made.def_abstract_eval(types)
    made.def_impl(lambda *operands, **params: compiled(**params)(*operands))
    mlir.register_lowering(made, mlir.lower_fun(scan, multiple_results=True))
    return made


def _on_cpu(operation: Any, results: Results, extra: str) -> None:
    """Make an operation a foreign call on the CPU; `extra` is its parameter besides the call."""

    def compute(*operands: Any, call: Call, **params: Any) -> list[Any]:
        found = results(*operands, call=call, **params)
        types = [jax.ShapeDtypeStruct(one.shape, one.dtype) for one in found]
        run = jax.ffi.ffi_call(operation.name, types)
        return list(run(*operands, spec=call.encoded(params[extra])))

    lowering = mlir.lower_fun(compute, multiple_results=True)
    mlir.register_lowering(operation, lowering, platform="cpu")


forward_p = _operation("fusedrnn_forward", _forward_results, _scan.forward)
tangent_p = _operation("fusedrnn_tangent", _tangent_results, _scan.tangent)
backward_p = _operation("fusedrnn_backward", _backward_results, _scan.backward)
if _foreign_call.register():
    _on_cpu(forward_p, _forward_results, "save")
    _on_cpu(backward_p, _backward_results, "wrt")


# --- derivatives ----------------------------------------------------------------------------------


def _still(a: Any) -> Any:
    """Return the tangent of an operand that does not move."""
    return ad.Zero(jax.typeof(a).to_tangent_aval())


def _by_scan(
    run: Callable[..., Any], primals: Arrays, tangents: Arrays
) -> tuple[list[Any], list[Any]]:
    """Return the results of `run` and their tangents, by JAX's own rules for what it is made of."""
    places = [k for k, t in enumerate(tangents) if type(t) is not ad.Zero]
    of_moving = _scan.moving(lambda every: list(run(*every)), primals, places)
    values, speeds = (tuple(given[k] for k in places) for given in (primals, tangents))
    out, moved = jax.jvp(of_moving, values, speeds)
    return out, moved


def _forward_jvp(
    primals: Arrays, tangents: Arrays, *, call: Call, save: bool
) -> tuple[list[Any], list[Any]]:
    wrt = tuple(k for k, t in enumerate(tangents) if type(t) is not ad.Zero)
    if any(call.roles[k] not in DIFFERENTIABLE for k in wrt):  # the kernels have no such gradient
        return _by_scan(partial(_scan.forward, call=call, save=save), primals, tangents)
    out = forward_p.bind(*primals, call=call, save=True)
    count = len(_call.forward_results(call, primals))
    moved = tangent_p.bind(
        *primals,
        out[0],
        *out[count:],
        *(tangents[k] for k in wrt),
        call=call.with_roles("y", *_call.residual_roles(call)),
        wrt=wrt,
    )
    if not save:
        return out[:count], moved
    # Who reads what is kept takes the derivatives by the operands on which it depends.
    return out, [*moved, *(_still(a) for a in out[count:])]


def _tangent_jvp(primals: Arrays, tangents: Arrays, **options: Any) -> tuple[list[Any], list[Any]]:
    return _by_scan(partial(_scan.tangent, **options), primals, tangents)


def _tangent_transpose(
    cotangents: Arrays, *operands: Any, call: Call, wrt: tuple[int, ...]
) -> list[Any]:
    known = operands[: len(call.roles)]
    wanted = tuple(
        k for k, t in zip(wrt, operands[len(known) :], strict=True) if ad.is_undefined_primal(t)
    )
    roles = ("dy", *(f"dstate {k}" for k in range(len(cotangents) - 1)))
    arrived = [
        (role, ct) for role, ct in zip(roles, cotangents, strict=True) if type(ct) is not ad.Zero
    ]
    found: dict[int, Any] = {}
    if arrived and wanted:
        gradients = backward_p.bind(
            *known,
            *(ct for _, ct in arrived),
            call=call.with_roles(*(role for role, _ in arrived)),
            wrt=wanted,
        )
        for k, g in zip(wanted, gradients, strict=True):
            shared = call.members is not None and not call.mapped[k]
            found[k] = g.sum(axis=0) if shared else g
    return [*[None] * len(known), *(found.get(k) for k in wrt)]


def _backward_jvp(
    primals: Arrays, tangents: Arrays, *, call: Call, wrt: tuple[int, ...]
) -> tuple[list[Any], list[Any]]:
    # Everything that the forward call returned depends on the other operands, from which the scan
    # computes it again.
    derived = ("y", *_call.residual_roles(call))
    moving = [
        _still(a) if role in derived else t
        for role, a, t in zip(call.roles, primals, tangents, strict=True)
    ]
    out = backward_p.bind(*primals, call=call, wrt=wrt)
    if all(type(t) is ad.Zero for t in moving):
        return out, [_still(a) for a in out]
    return out, _by_scan(partial(_scan.backward, call=call, wrt=wrt), primals, moving)[1]


ad.primitive_jvps[forward_p] = _forward_jvp
ad.primitive_jvps[tangent_p] = _tangent_jvp
ad.primitive_jvps[backward_p] = _backward_jvp
ad.primitive_transposes[tangent_p] = _tangent_transpose


# --- vmap -----------------------------------------------------------------------------------------


def _folded(call: Call, operands: Arrays, dims: Sequence[int | None], size: int) -> list[Any]:
    """Make the mapped axis a part of the batch."""
    found = []
    for k, (a, dim) in enumerate(zip(operands, dims, strict=True)):
        axis = call.batch_axis(call.roles[k])
        if axis is None:
            found.append(a)
            continue
        axis += call.members is not None and call.mapped[k]
        if dim is None:
            shape = (*a.shape[:axis], size, *a.shape[axis:])
            a = jnp.broadcast_to(jnp.expand_dims(a, axis), shape)
        else:
            a = jnp.moveaxis(a, dim, axis)
        found.append(a.reshape(*a.shape[:axis], -1, *a.shape[axis + 2 :]))
    return found


def _unfolded(
    call: Call, roles: Sequence[str], results: Arrays, size: int
) -> tuple[list[Any], list[int]]:
    """Make the mapped axis an axis again, beside that of the batch."""
    found, dims = [], []
    for role, a in zip(roles, results, strict=True):
        axis = call.batch_axis(role)
        assert axis is not None
        axis += call.members is not None
        found.append(a.reshape(*a.shape[:axis], size, -1, *a.shape[axis + 1 :]))
        dims.append(axis)
    return found, dims


def _as_members(
    call: Call, operands: Arrays, dims: Sequence[int | None], size: int
) -> tuple[list[Any], Call]:
    """Make the mapped axis the axis of members, or a part of it."""
    inner = call.members
    found, mapped = [], []
    for k, (a, dim) in enumerate(zip(operands, dims, strict=True)):
        before = inner is not None and call.mapped[k]
        mapped.append(before or dim is not None)
        if dim is not None:
            a = jnp.moveaxis(a, dim, 0)
        if inner is not None and mapped[-1]:
            if dim is None:
                a = jnp.broadcast_to(a[None], (size, *a.shape))
            elif not before:
                a = jnp.broadcast_to(a[:, None], (size, inner, *a.shape[1:]))
            a = a.reshape(size * inner, *a.shape[2:])
        found.append(a)
    members = size if inner is None else size * inner
    return found, call._replace(members=members, mapped=tuple(mapped))


def _apart(call: Call, results: Arrays, size: int) -> tuple[list[Any], list[int]]:
    if call.members is not None:
        results = [a.reshape(size, call.members, *a.shape[1:]) for a in results]
    return list(results), [0] * len(results)


def _size(operands: Arrays, dims: Sequence[int | None]) -> int:
    return next(int(a.shape[d]) for a, d in zip(operands, dims, strict=True) if d is not None)


def _maps_weights(call: Call, dims: Sequence[int | None]) -> bool:
    return any(dims[k] is not None for k in call.at("weight"))


def _forward_batch(
    operands: Arrays, dims: Sequence[int | None], *, call: Call, save: bool
) -> tuple[list[Any], list[int]]:
    size = _size(operands, dims)
    if _maps_weights(call, dims):
        given, of_members = _as_members(call, operands, dims, size)
        return _apart(call, forward_p.bind(*given, call=of_members, save=save), size)
    results = forward_p.bind(*_folded(call, operands, dims, size), call=call, save=save)
    kept = _call.residual_roles(call) if save else ()
    states = ["states"] * (len(results) - 1 - len(kept))
    return _unfolded(call, ["y", *states, *kept], results, size)


def _backward_batch(
    operands: Arrays, dims: Sequence[int | None], *, call: Call, wrt: tuple[int, ...]
) -> tuple[list[Any], list[int]]:
    size = _size(operands, dims)
    # Each row of the batch has a gradient of its own of the weights.
    wanted = any(call.roles[k] == "weight" for k in wrt)
    if wanted or _maps_weights(call, dims):
        given, of_members = _as_members(call, operands, dims, size)
        return _apart(call, backward_p.bind(*given, call=of_members, wrt=wrt), size)
    results = backward_p.bind(*_folded(call, operands, dims, size), call=call, wrt=wrt)
    return _unfolded(call, [call.roles[k] for k in wrt], results, size)


def _tangent_batch(
    operands: Arrays, dims: Sequence[int | None], **options: Any
) -> tuple[list[Any], list[int]]:
    found = jax.vmap(partial(_scan.tangent, **options), in_axes=tuple(dims))(*operands)
    return list(found), [0] * len(found)


batching.primitive_batchers[forward_p] = _forward_batch
batching.primitive_batchers[tangent_p] = _tangent_batch
batching.primitive_batchers[backward_p] = _backward_batch
