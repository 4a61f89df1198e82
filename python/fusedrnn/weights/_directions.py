"""Systems whose form has one direction of one layer: Haste, lecture notes, gates by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .._cells import CELLS, Array
from .._checks import arguments as _check
from ._blocks import Blocks, read, write
from ._spellings import spelled
from ._stack import direction_of, layout_of, ours

# --- Haste ------------------------------------------------------------------------------------


def from_haste(
    state_dict: Mapping[str, Any], cell: str, *, layer: int = 0, reverse: bool = False
) -> dict[str, Array]:
    """Convert weights of a Haste ``LSTM`` or ``GRU``.

    Parameters
    ----------
    state_dict : mapping of str to array_like
        From haste_pytorch's module, or ``get_weights()`` of haste_tf's layer: kernel (I, n*H),
        recurrent_kernel (H, n*H), bias (n*H,), and for the GRU recurrent_bias (3*H,). Gates
        i g f o; z r h.
    cell : str
        A cell that Haste has: "lstm", "gru".
    layer : int
        Number of the layer in the new mapping; join the mappings of layers with ``|``.
    reverse : bool
        Whether it becomes the reverse direction; join the directions with ``|``.

    Returns
    -------
    dict of str to ndarray
        fusedrnn's mapping; the LSTM's bias is ``bias_ih``, and ``bias_hh`` is zeros.

    Raises
    ------
    TypeError
        An array is not floating point; `state_dict` is not a mapping.
    ValueError
        A name, shape or cell is none of those above.

    Examples
    --------
    >>> import numpy as np
    >>> from fusedrnn import weights
    >>> names = ("kernel", "recurrent_kernel", "bias")
    >>> haste = {name: np.ones(s) for name, s in zip(names, ((3, 32), (8, 32), (32,)))}
    >>> params = weights.from_haste(haste, "lstm")
    >>> weights.layer(params, "lstm")
    LSTM(3, 8, dtype='float64')
    """
    layout = layout_of(cell, "haste")
    blocks = read("from_haste", layout, _check.weights_mapping("from_haste", state_dict))
    return ours("from_haste", [blocks], cell, layer, reverse)


def to_haste(
    params: Mapping[str, Any], cell: str, *, layer: int | None = None, reverse: bool | None = None
) -> dict[str, Array]:
    """Convert weights for a Haste ``LSTM`` or ``GRU``.

    Parameters
    ----------
    params : mapping of str to array_like
        fusedrnn's mapping.
    cell : str
        A cell that Haste has.
    layer : int, optional
        Number of the layer; needed if there are several.
    reverse : bool, optional
        Which direction; needed if there are two.

    Returns
    -------
    dict of str to ndarray
        As `from_haste` takes it. The LSTM's bias is the sum of both; zeros if `params` has none.

    Raises
    ------
    TypeError, ValueError
        As `from_haste`.

    Examples
    --------
    >>> import fusedrnn as fr
    >>> from fusedrnn import weights
    >>> gru = fr.GRU(3, 8, seed=0)
    >>> haste = weights.to_haste(gru.params, gru.cell)
    >>> {name: a.shape for name, a in haste.items() if "bias" not in name}
    {'kernel': (3, 24), 'recurrent_kernel': (8, 24)}
    """
    layout = layout_of(cell, "haste")
    blocks = direction_of("to_haste", params, cell, layer, reverse)
    return write("to_haste", layout, blocks, CELLS[cell])


# --- the lecture notes ------------------------------------------------------------------------


def from_lecture(
    arrays: Mapping[str, Any],
    cell: str,
    *,
    z_keeps_old: bool | None = None,
    u_reads: str | None = None,
    layer: int = 0,
    reverse: bool = False,
) -> dict[str, Array]:
    """Convert weights as in lecture notes and papers, by the names that they have there.

    Parameters
    ----------
    arrays : mapping of str to array_like
        With one matrix for each gate, which acts on [h, x]: LSTM: W_f, W_i, W_c, W_o (H, H + I) and
        b_f, b_i, b_c, b_o (H,); GRU: W_z, W_r, W_h and b_z, b_r, b_h, with ``h~ = tanh(W_h [r*h, x]
        + b_h)``. RNN: W_h (H, H), W_x (H, I), b (H,). Other names for the same are known:

        - RNN: W_hh, W_xh, b_h; U, W, b; and A, B, b of a state-space model;
        - the candidate of an LSTM as W_g; that of a GRU as W (without index), W_c, W_g or W_n; the
          update gate of a GRU as W_u;
        - gates with two matrices (H, I) and (H, H): W_xf, W_hf, b_f ..., or W_f, U_f, b_f ...

        Whh and W_{hh} are W_hh, and W_C is W_c. Either all biases are there or none. Every matrix
        stands before its vector, as in W x; transpose those of notes that write x W.
    cell : str
        "rnn_tanh" ..., "lstm", "gru_reset_before": notes apply r before the product.
    z_keeps_old : bool
        The meaning of z; needed for a GRU. True: ``h' = z*h + (1-z)*h~`` (Cho et al. 2014), as in
        fusedrnn. False: ``h' = (1-z)*h + z*h~`` (Chung et al. 2014); W_z and b_z are negated,
        because 1 - sigmoid(a) = sigmoid(-a).
    u_reads : {"x", "h"}, optional
        What U multiplies where the matrices are called U and W: "x" for ``U x + W h`` (Goodfellow,
        Bengio and Courville 2016), "h" for ``W x + U h`` (Cho et al. 2014; Jurafsky and Martin).
        Needed only if I = H, because otherwise the shapes say it.
    layer : int
        Number of the layer in the new mapping; join the mappings of layers with ``|``.
    reverse : bool
        Whether it becomes the reverse direction; join the directions with ``|``.

    Returns
    -------
    dict of str to ndarray
        fusedrnn's mapping; the biases are ``bias_ih``, and ``bias_hh`` is zeros.

    Raises
    ------
    TypeError
        An array is not floating point; `z_keeps_old` is not given for a GRU, or `u_reads` where it
        is needed.
    ValueError
        A name, shape or cell is none of those above; those of an output layer, such as V and c, are
        named as such.

    Examples
    --------
    >>> import numpy as np
    >>> from fusedrnn import weights
    >>> notes = {f"W_{gate}": np.ones((8, 8 + 3)) for gate in "zrh"}
    >>> params = weights.from_lecture(notes, "gru_reset_before", z_keeps_old=False)
    >>> weights.layer(params, "gru_reset_before")
    GRU(3, 8, bias=False, reset_after=False, dtype='float64')
    """
    usual = layout_of(cell, "lecture")
    given = _check.weights_mapping("from_lecture", arrays)
    blocks = read("from_lecture", spelled("from_lecture", given, cell, usual, u_reads), given)
    return ours("from_lecture", [_kept(blocks, z_keeps_old)], cell, layer, reverse)


def _kept(blocks: Blocks, z_keeps_old: object) -> Blocks:
    """Negate the blocks of z unless z keeps the old state; converts in both directions."""
    if any(gate == "z" for _, gate in blocks):
        if z_keeps_old is None:
            expected = "z_keeps_old for a GRU: True for h' = z*h + (1-z)*h~, False for the reverse"
            _check.weights_type("lecture notes and gates", expected, z_keeps_old)
        if not _check.flag(z_keeps_old, "z_keeps_old"):
            return {key: -a if key[1] == "z" else a for key, a in blocks.items()}
    return blocks


def to_lecture(
    params: Mapping[str, Any],
    cell: str,
    *,
    z_keeps_old: bool | None = None,
    layer: int | None = None,
    reverse: bool | None = None,
) -> dict[str, Array]:
    """Convert weights to the form of lecture notes and papers.

    Parameters
    ----------
    params : mapping of str to array_like
        fusedrnn's mapping.
    cell : str
        "rnn_tanh" ..., "lstm", "gru_reset_before".
    z_keeps_old : bool
        The meaning that z shall have, as in `from_lecture`; needed for a GRU.
    layer : int, optional
        Number of the layer; needed if there are several.
    reverse : bool, optional
        Which direction; needed if there are two.

    Returns
    -------
    dict of str to ndarray
        As `from_lecture` takes it; a bias is the sum of fusedrnn's two.

    Raises
    ------
    TypeError, ValueError
        As `from_lecture`; there is no projection.

    Examples
    --------
    >>> import fusedrnn as fr
    >>> from fusedrnn import weights
    >>> lstm = fr.LSTM(3, 8, seed=0)
    >>> notes = weights.to_lecture(lstm.params, lstm.cell)
    >>> notes["W_f"].shape, notes["b_f"].shape
    ((8, 11), (8,))
    """
    layout = layout_of(cell, "lecture")
    blocks = direction_of("to_lecture", params, cell, layer, reverse)
    return write("to_lecture", layout, _kept(blocks, z_keeps_old), CELLS[cell])


# --- gates by name ----------------------------------------------------------------------------


def from_gates(
    arrays: Mapping[str, Any],
    cell: str,
    *,
    z_keeps_old: bool | None = None,
    layer: int = 0,
    reverse: bool = False,
) -> dict[str, Array]:
    """Convert weights of a system that keeps each gate separately: two matrices, bias, peephole.

    Parameters
    ----------
    arrays : mapping of str to array_like
        For each gate, here i: W_i (H, I), which multiplies x, R_i (H, H), which multiplies h, and
        b_i (H,). LSTM: i f g o, and with peepholes p_i, p_f, p_o (H,). GRU: r z n. RNN: W, R, b.
        Either all biases are there or none. If a system computes ``x @ W``, transpose its matrices.
    cell : str
        Any cell without layer normalisation. A "gru" has the bias of n outside the reset gate.
    z_keeps_old : bool
        The meaning of z, as in `from_lecture`; needed for a GRU.
    layer : int
        Number of the layer in the new mapping; join the mappings of layers with ``|``.
    reverse : bool
        Whether it becomes the reverse direction; join the directions with ``|``.

    Returns
    -------
    dict of str to ndarray
        fusedrnn's mapping; the biases are ``bias_ih``, and ``bias_hh`` is zeros.

    Raises
    ------
    TypeError
        An array is not floating point; `z_keeps_old` is not given for a GRU.
    ValueError
        A name, shape or cell is none of those above.

    Examples
    --------
    >>> import numpy as np
    >>> from fusedrnn import weights
    >>> gates = {"W": np.ones((8, 3)), "R": np.ones((8, 8)), "b": np.zeros(8)}
    >>> params = weights.from_gates(gates, "rnn_relu")
    >>> weights.layer(params, "rnn_relu")
    RNN(3, 8, nonlinearity='relu', dtype='float64')
    """
    layout = layout_of(cell, "gates")
    blocks = read("from_gates", layout, _check.weights_mapping("from_gates", arrays))
    return ours("from_gates", [_kept(blocks, z_keeps_old)], cell, layer, reverse)


def to_gates(
    params: Mapping[str, Any],
    cell: str,
    *,
    z_keeps_old: bool | None = None,
    layer: int | None = None,
    reverse: bool | None = None,
) -> dict[str, Array]:
    """Convert weights for a system that keeps each gate separately.

    Parameters
    ----------
    params : mapping of str to array_like
        fusedrnn's mapping.
    cell : str
        As in `from_gates`.
    z_keeps_old : bool
        The meaning that z shall have, as in `from_lecture`; needed for a GRU.
    layer : int, optional
        Number of the layer; needed if there are several.
    reverse : bool, optional
        Which direction; needed if there are two.

    Returns
    -------
    dict of str to ndarray
        As `from_gates` takes it; a bias is the sum of fusedrnn's two.

    Raises
    ------
    TypeError, ValueError
        As `from_gates`. There is no projection. A "gru" has no second bias of n, so fusedrnn's
        must be zeros.

    Examples
    --------
    >>> import fusedrnn as fr
    >>> from fusedrnn import weights
    >>> lstm = fr.LSTM(3, 8, seed=0)
    >>> gates = weights.to_gates(lstm.params, lstm.cell)
    >>> gates["W_f"].shape, gates["R_f"].shape, gates["b_f"].shape
    ((8, 3), (8, 8), (8,))
    """
    layout = layout_of(cell, "gates")
    blocks = direction_of("to_gates", params, cell, layer, reverse)
    return write("to_gates", layout, _kept(blocks, z_keeps_old), CELLS[cell])
