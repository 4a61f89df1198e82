"""Making a layer from given weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .._cells import CELLS
from .._checks import arguments as _check
from ..layers import GRU, LSTM, RNN
from ._stack import restacked


def layer(params: Mapping[str, Any], cell: str, **options: Any) -> RNN | GRU | LSTM:
    """Make a layer with these weights, which give its sizes, stack, directions and biases.

    Parameters
    ----------
    params : mapping of str to array_like
        fusedrnn's mapping, as the ``from_`` functions return it.
    cell : str
        As the ``from_`` functions take it. For a cell of chosen activations (``"lstm_chosen"`` ...)
        pass these, the clip or the coupled gates as `options`.
    **options
        Arguments of the layer's class that the weights do not give: ``batch_first``,
        ``activations``, ``clip``, ``dropout`` ...

    Returns
    -------
    RNN, GRU or LSTM
        The layer, with a copy of the weights, in their dtype: float32 or float64.

    Raises
    ------
    TypeError, ValueError
        A name, shape or dtype of the weights does not fit the cell, or an option does not.

    Examples
    --------
    >>> import fusedrnn as fr
    >>> from fusedrnn import weights
    >>> lstm = fr.LSTM(3, 8, num_layers=2, bidirectional=True, seed=0)
    >>> weights.layer(lstm.params, lstm.cell)
    LSTM(3, 8, num_layers=2, bidirectional=True)
    """
    arrays = restacked("layer", params, cell, "fusedrnn", "fusedrnn")
    spec = CELLS[cell]
    first = arrays["weight_ih_l0"]
    depth = 1 + max(int(name.split("_l")[1].split("_")[0]) for name in arrays)
    sizes = [len(arrays[f"weight_hh_l{k}"]) // len(spec.gate_names) for k in range(depth)]
    given: dict[str, Any] = {
        "bias": "bias_ih_l0" in arrays,
        "bidirectional": "weight_ih_l0_reverse" in arrays,
        "dtype": first.dtype,
        "seed": 0,
    }
    kinds: dict[int, Any] = {1: RNN, 3: GRU, 4: LSTM}
    kind = kinds[len(spec.gate_names)]
    if kind is RNN and not cell.endswith("_chosen"):
        given["nonlinearity"] = cell.removeprefix("rnn_")
    if kind is GRU:
        given["reset_after"] = not spec.late
    if kind is LSTM:
        given["peepholes"] = "weight_p_l0" in arrays
        projection = arrays.get("weight_hr_l0")
        given["proj_size"] = 0 if projection is None else len(projection)
    hidden: Any = sizes if len(set(sizes)) > 1 else sizes[0]
    made: RNN | GRU | LSTM = kind(first.shape[1], hidden, depth, **given | options)
    if made.cell != cell:
        expected = f"options that make a {cell}, such as activations or clip"
        _check.weights_differ("layer", expected, f"those of a {made.cell}")
    made.load_state_dict(arrays)
    return made
