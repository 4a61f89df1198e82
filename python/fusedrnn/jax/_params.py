"""The weights of the functions, from and to the names that layers and files have."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from . import _operands

Array = Any  # the type checker does not read jax

# The names of `core`, and those of ``layer.params`` without layer and direction.
_NAMES = {
    "w_ih": "weight_ih",
    "w_hh": "weight_hh",
    "b_ih": "bias_ih",
    "b_hh": "bias_hh",
    "p": "weight_p",
    "w_hr": "weight_hr",
    "norm_ih": "weight_norm_ih",
    "norm_hh": "weight_norm_hh",
    "norm_c": "weight_norm_c",
    "norm_c_bias": "bias_norm_c",
}
_OURS = {theirs: ours for ours, theirs in _NAMES.items()}
_NAME = re.compile(r"(\w+?)_l(\d+)(_reverse)?")


def weights_of(params: Mapping[str, Array], layer: int = 0) -> Any:
    """Return one layer's weights as `rnn`, `lstm` and `gru` take them.

    Parameters
    ----------
    params : mapping of str to array
        PyTorch's names, as in ``layer.params``, ``layer.state_dict()`` and what the functions of
        ``fusedrnn.weights`` return: "weight_ih_l0", "weight_hh_l0_reverse", ...
    layer : int
        Number of the layer.

    Returns
    -------
    dict of str to array, or a pair of them
        A pair if the layer has two directions. The arrays are those of `params`.

    Raises
    ------
    TypeError, ValueError
        `params` is not such a mapping; a name is unknown; there is no such layer.

    Examples
    --------
    >>> import fusedrnn as fr
    >>> import jax.numpy as jnp
    >>> from fusedrnn.jax import gru, weights_of
    >>> layer = fr.GRU(3, 8, bidirectional=True, seed=0)
    >>> y, h_n = gru(jnp.ones((5, 2, 3)), weights_of(layer.params))
    >>> y.shape, h_n.shape
    ((5, 2, 16), (2, 2, 8))
    """
    if not isinstance(params, Mapping):
        raise TypeError(
            f"params: expected a mapping of names to arrays, got {_operands.describe(params)}"
        )
    sides: list[dict[str, Array]] = [{}, {}]
    layers = set()
    for name, value in params.items():
        match = _NAME.fullmatch(str(name))
        if match is None or match[1] not in _OURS:
            raise ValueError(
                f"params: expected names of {', '.join(_OURS)}, each with _l0, _l1 ..., and "
                f"_reverse or nothing after it; got {name!r}"
            )
        layers.add(int(match[2]))
        if int(match[2]) == layer:
            sides[match[3] is not None][_OURS[match[1]]] = value
    if not sides[0]:
        raise ValueError(f"layer: expected one of {sorted(layers)}, got {layer!r}")
    return (sides[0], sides[1]) if sides[1] else sides[0]


def params_of(weights: Any, layer: int = 0) -> dict[str, Array]:
    """Return weights under the names that layers and files have; the inverse of `weights_of`.

    Parameters
    ----------
    weights : mapping of str to array, or a pair of them
        As `rnn`, `lstm` and `gru` take them, or their gradients.
    layer : int
        Number of the layer; join the mappings of layers with ``|``.

    Returns
    -------
    dict of str to array
        PyTorch's names, for ``layer.load_state_dict`` and the functions of ``fusedrnn.weights``.

    Raises
    ------
    TypeError, ValueError
        `weights` is not as above.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from fusedrnn.jax import params_of
    >>> sorted(params_of({"w_ih": jnp.ones((8, 3)), "w_hh": jnp.eye(8)}, layer=1))
    ['weight_hh_l1', 'weight_ih_l1']
    """
    sides = [weights] if isinstance(weights, Mapping) else weights
    if (
        not isinstance(sides, Sequence)
        or len(sides) not in (1, 2)
        or not all(isinstance(one, Mapping) for one in sides)
    ):
        raise TypeError(
            "weights: expected a mapping of names to arrays, or a pair of them for two "
            f"directions, got {_operands.describe(weights)}"
        )
    found = {}
    for side, ending in zip(sides, ("", "_reverse"), strict=False):
        for name, value in side.items():
            if name not in _NAMES:
                raise ValueError(f"weights: expected names among {', '.join(_NAMES)}; got {name!r}")
            if value is not None:
                found[f"{_NAMES[name]}_l{layer}{ending}"] = value
    return found
