"""The public layers RNN, LSTM and GRU: each with its cell and its options.

All that the three share is in `_layers.layer.Layer`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from ._activations import Activation, Options
from ._cells import Array
from ._checks import arguments as _check
from ._checks import options as _check_options
from ._layers.dense import Dense
from ._layers.layer import Layer

__all__ = ["GRU", "LSTM", "RNN", "Dense"]

# An activation: its name, (name, alpha) or (name, alpha, beta).
ActivationLike: TypeAlias = str | tuple[Any, ...]


def _choose(
    cell: str,
    chosen: str,
    usual: tuple[str, ...],
    given: Sequence[ActivationLike] | None,
    bound: float,
    coupled: bool = False,
) -> tuple[str, Options | None]:
    """Return `cell` if the activations are the usual ones; otherwise `chosen`, with its options."""
    activations = _check_options.activations(given, usual)
    plain = tuple(Activation(name) for name in usual)
    if activations == plain and bound == np.inf and not coupled:
        return cell, None
    f, g, h = (*activations, *activations[-1:] * 2)[:3]
    return chosen, Options(f, g, h, bound, coupled)


class RNN(Layer[Array, ArrayLike]):
    """Elman network: ``h' = f(W x + b_ih + R h + b_hh)``; ``y, h_n = rnn(x, h0)``.

    Parameters
    ----------
    input_size : int
        I, at least 0.
    hidden_size : int, or list or tuple of int
        H, at least 1; one for all layers, or one for each.
    num_layers : int
        L; each layer reads the outputs of the layer before.
    bias : {True, False, "input", "hidden"}
        Which biases there are: both b_ih and b_hh, none, only b_ih, or only b_hh.
    batch_first : bool
        x, y, tokens, mask and reset are (B, T, ...) in place of (T, B, ...).
    dropout : float
        Rate of dropout between layers, drawn anew for each element and step, as in torch.
    bidirectional : bool
        A second direction runs from each sequence's end; y holds both side by side.
    dtype : dtype
        float32 or float64.
    seed : optional
        A seed for ``numpy.random.default_rng``; parameters are drawn uniformly from
        +-1/sqrt(hidden_size), in their order.
    nonlinearity : str or tuple
        f: "tanh", "relu", "sigmoid", "identity" (the linear state-space model), or any other of
        ONNX's: "affine", "leaky_relu", "thresholded_relu", "scaled_tanh", "hard_sigmoid", "elu",
        "softsign", "softplus"; (name, alpha) or (name, alpha, beta) for other parameters.
    clip : float, optional
        The input of every activation is clipped to [-clip, clip] (ONNX); its gradient is 0 there.
    input_dropout, recurrent_dropout : float
        Rates of variational dropout: on x of each layer, and on what R sees of h, one mask for a
        sequence and all its steps (Gal and Ghahramani 2016; Keras's dropout, recurrent_dropout).
    zoneout : float
        Rate at which units of h keep their old value (Krueger et al. 2017); a call that draws
        no noise uses the expectation.
    drop_connect : float
        Rate at which elements of R are dropped, one mask for a call (Wan et al. 2013).
    learn_initial_state : bool
        Whether the state before a sequence's first step is learned: parameters, zeros at first,
        one for all sequences, in place of zeros. A call that gets a `state`, or after a reset an
        `initial`, uses that.

    Raises
    ------
    TypeError, ValueError
        An argument is not as above.

    Warns
    -----
    UserWarning
        There is dropout but only one layer: it acts between layers.

    References
    ----------
    J. L. Elman, Finding structure in time, Cognitive Science 14, 1990.

    Examples
    --------
    >>> import numpy as np
    >>> import fusedrnn as fr
    >>> rnn = fr.RNN(3, 8, nonlinearity="relu", seed=0)
    >>> x = np.ones((20, 4, 3), np.float32)  # (T, B, I)
    >>> y, h_n, saved = rnn.forward(x)  # keeps what backward needs
    >>> y.shape, h_n.shape
    ((20, 4, 8), (1, 4, 8))
    >>> dx, dh_0, gradients = rnn.backward(saved, dy=np.ones_like(y))
    >>> list(gradients)
    ['weight_ih_l0', 'weight_hh_l0', 'bias_ih_l0', 'bias_hh_l0']
    """

    _kind = "RNN"
    _own: ClassVar[dict[str, Any]] = {"nonlinearity": "tanh", "clip": None}

    def __init__(
        self,
        input_size: int,
        hidden_size: int | Sequence[int],
        num_layers: int = 1,
        *,
        bias: bool | str = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        dtype: DTypeLike = np.float32,
        seed: object = None,
        nonlinearity: ActivationLike = "tanh",
        clip: float | None = None,
        input_dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        zoneout: float = 0.0,
        drop_connect: float = 0.0,
        learn_initial_state: bool = False,
    ) -> None:
        self.nonlinearity = _check_options.frozen(nonlinearity)
        bound = _check_options.clip(clip)
        self.clip = None if bound == np.inf else bound
        fixed = isinstance(nonlinearity, str) and nonlinearity in _check.NONLINEARITIES
        if fixed and self.clip is None:
            cell, options = f"rnn_{nonlinearity}", None
        else:
            f = _check_options.activation(nonlinearity, "nonlinearity")
            cell, options = "rnn_chosen", Options(f, f, f, bound)
        self._create(
            cell,
            options,
            input_size=input_size,
            hidden_size=hidden_size,
            num_layers=num_layers,
            bias=bias,
            batch_first=batch_first,
            bidirectional=bidirectional,
            dtype=dtype,
            seed=seed,
            dropout=dropout,
            input_dropout=input_dropout,
            recurrent_dropout=recurrent_dropout,
            zoneout=zoneout,
            drop_connect=drop_connect,
            learn_initial_state=learn_initial_state,
        )


class LSTM(Layer[tuple[Array, Array], Sequence[ArrayLike | None]]):
    """LSTM: ``c' = f c + i g``, ``h' = o tanh(c')``; ``y, (h_n, c_n) = lstm(x, (h0, c0))``.

    Gates in the order i f g o. With peepholes, i and f also see ``p * c``, o sees ``p * c'``. With
    a projection, ``h' = W_hr (o tanh(c'))``.

    Parameters
    ----------
    input_size : int
        I, at least 0.
    hidden_size : int, or list or tuple of int
        H, at least 1; one for all layers, or one for each.
    num_layers : int
        L; each layer reads the outputs of the layer before.
    bias : {True, False, "input", "hidden"}
        Which biases there are: both b_ih and b_hh, none, only b_ih, or only b_hh.
    batch_first : bool
        x, y, tokens, mask and reset are (B, T, ...) in place of (T, B, ...).
    dropout : float
        Rate of dropout between layers, drawn anew for each element and step, as in torch.
    bidirectional : bool
        A second direction runs from each sequence's end; y holds both side by side.
    proj_size : int
        P < H, the size of h and y under a projection; 0 means no projection.
    dtype : dtype
        float32 or float64.
    seed : optional
        A seed for ``numpy.random.default_rng``; parameters are drawn uniformly from
        +-1/sqrt(hidden_size), in their order.
    peepholes : bool
        Whether there is weight_p, shape (3, H), rows i f o.
    activations : (f, g, h), optional
        Activations of the gates i f o, of the candidate g, and of c' on the output path, in place
        of ("sigmoid", "tanh", "tanh"); each as `RNN`'s nonlinearity.
    coupled : bool
        The forget gate is 1 - i (CIFG; ONNX's input_forget); its own weights are not used.
    forget_bias : float, optional
        Start value of the sum of the forget gate's biases (Jozefowicz et al. 2015: 1). Not with
        coupled gates, nor without biases.
    clip : float, optional
        The input of every activation is clipped to [-clip, clip] (ONNX); its gradient is 0 there.
    layer_norm : bool
        Normalise W x and R h of each gate, and c' on the output path, over the H units, each with
        a gain of its own that starts at 1 (Ba et al. 2016). Not with peepholes, proj_size, other
        activations, clip or coupled gates.
    input_dropout, recurrent_dropout : float
        Rates of variational dropout: on x of each layer, and on what R sees of h, one mask for a
        sequence and all its steps (Gal and Ghahramani 2016; Keras's dropout, recurrent_dropout).
    zoneout : float or (float, float)
        Rate at which units of h and of c keep their old value, or one rate for each (Krueger et
        al. 2017); a call that draws no noise uses the expectation.
    drop_connect : float
        Rate at which elements of R are dropped, one mask for a call (Wan et al. 2013).
    learn_initial_state : bool
        Whether the state before a sequence's first step is learned: parameters, zeros at first,
        one for all sequences, in place of zeros. A call that gets a `state`, or after a reset an
        `initial`, uses that.

    Raises
    ------
    TypeError, ValueError
        An argument is not as above.

    Warns
    -----
    UserWarning
        There is dropout but only one layer: it acts between layers.

    References
    ----------
    S. Hochreiter and J. Schmidhuber, Long short-term memory, Neural Computation 9, 1997;
    F. A. Gers, J. Schmidhuber and F. Cummins, Learning to forget, Neural Computation 12, 2000;
    peepholes: F. A. Gers and J. Schmidhuber, Recurrent nets that time and count, IJCNN 2000;
    projection: H. Sak, A. Senior and F. Beaufays, LSTM based RNN architectures, 2014.

    Examples
    --------
    >>> import numpy as np
    >>> import fusedrnn as fr
    >>> lstm = fr.LSTM(3, 8, num_layers=2, bidirectional=True, seed=0)
    >>> x = np.ones((20, 4, 3), np.float32)  # (T, B, I)
    >>> y, (h_n, c_n) = lstm(x, lengths=[20, 5, 1, 7])
    >>> y.shape, h_n.shape  # (T, B, 2*H), (L*2, B, H)
    ((20, 4, 16), (4, 4, 8))
    >>> bool(y[5:, 1].any())  # the second sequence ends after five steps
    False
    """

    _kind = "LSTM"
    _own: ClassVar[dict[str, Any]] = {
        "proj_size": 0,
        "peepholes": False,
        "activations": None,
        "coupled": False,
        "forget_bias": None,
        "clip": None,
        "layer_norm": False,
    }

    def __init__(
        self,
        input_size: int,
        hidden_size: int | Sequence[int],
        num_layers: int = 1,
        *,
        bias: bool | str = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        dtype: DTypeLike = np.float32,
        seed: object = None,
        peepholes: bool = False,
        activations: Sequence[ActivationLike] | None = None,
        coupled: bool = False,
        forget_bias: float | None = None,
        clip: float | None = None,
        layer_norm: bool = False,
        input_dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        zoneout: float | Sequence[float] = 0.0,
        drop_connect: float = 0.0,
        learn_initial_state: bool = False,
    ) -> None:
        self.peepholes = _check.flag(peepholes, "peepholes")
        self.coupled = _check.flag(coupled, "coupled")
        self.activations = _check_options.frozen(activations)
        bound = _check_options.clip(clip)
        self.clip = None if bound == np.inf else bound
        base, usual = "lstm_peephole" if self.peepholes else "lstm", ("sigmoid", "tanh", "tanh")
        cell, options = _choose(base, "lstm_chosen", usual, activations, bound, self.coupled)
        others = {
            "peepholes": self.peepholes,
            "proj_size": _check.integer(proj_size, "proj_size", 0) != 0,
            "activations, clip or coupled": options is not None,
        }
        self.layer_norm = _check_options.layer_norm(layer_norm, others)
        cell = "lstm_norm" if self.layer_norm else cell
        self._create(
            cell,
            options,
            input_size=input_size,
            hidden_size=hidden_size,
            num_layers=num_layers,
            bias=bias,
            batch_first=batch_first,
            bidirectional=bidirectional,
            dtype=dtype,
            seed=seed,
            dropout=dropout,
            input_dropout=input_dropout,
            recurrent_dropout=recurrent_dropout,
            zoneout=zoneout,
            drop_connect=drop_connect,
            learn_initial_state=learn_initial_state,
            proj_size=proj_size,
            forget_bias=forget_bias,
        )


class GRU(Layer[Array, ArrayLike]):
    """GRU: ``h' = (1 - z) n + z h``; ``y, h_n = gru(x, h0)``.

    Gates in the order r z n, with ``n = tanh(W_n x + b_in + r (R_n h + b_hn))`` or, with the
    reset gate before the product, ``n = tanh(W_n x + b_in + R_n (r h) + b_hn)``.

    Parameters
    ----------
    input_size : int
        I, at least 0.
    hidden_size : int, or list or tuple of int
        H, at least 1; one for all layers, or one for each.
    num_layers : int
        L; each layer reads the outputs of the layer before.
    bias : {True, False, "input", "hidden"}
        Which biases there are: both b_ih and b_hh, none, only b_ih, or only b_hh.
    batch_first : bool
        x, y, tokens, mask and reset are (B, T, ...) in place of (T, B, ...).
    dropout : float
        Rate of dropout between layers, drawn anew for each element and step, as in torch.
    bidirectional : bool
        A second direction runs from each sequence's end; y holds both side by side.
    dtype : dtype
        float32 or float64.
    seed : optional
        A seed for ``numpy.random.default_rng``; parameters are drawn uniformly from
        +-1/sqrt(hidden_size), in their order.
    reset_after : bool
        True: as PyTorch, cuDNN and Keras's default. False: as ONNX's default and Cho et al. 2014.
    activations : (f, g), optional
        Activations of the gates r z and of the candidate n, in place of ("sigmoid", "tanh"); each
        as `RNN`'s nonlinearity.
    clip : float, optional
        The input of every activation is clipped to [-clip, clip] (ONNX); its gradient is 0 there.
    layer_norm : bool
        Normalise W x and R h of each gate over the H units, each with a gain of its own that starts
        at 1 (Ba et al. 2016). Not with reset_after=False, other activations or clip.
    input_dropout, recurrent_dropout : float
        Rates of variational dropout: on x of each layer, and on what R sees of h, one mask for a
        sequence and all its steps (Gal and Ghahramani 2016; Keras's dropout, recurrent_dropout).
    zoneout : float
        Rate at which units of h keep their old value (Krueger et al. 2017); a call that draws
        no noise uses the expectation.
    drop_connect : float
        Rate at which elements of R are dropped, one mask for a call (Wan et al. 2013).
    learn_initial_state : bool
        Whether the state before a sequence's first step is learned: parameters, zeros at first,
        one for all sequences, in place of zeros. A call that gets a `state`, or after a reset an
        `initial`, uses that.

    Raises
    ------
    TypeError, ValueError
        An argument is not as above.

    Warns
    -----
    UserWarning
        There is dropout but only one layer: it acts between layers.

    References
    ----------
    K. Cho et al., Learning phrase representations using RNN encoder-decoder for statistical
    machine translation, EMNLP 2014.

    Examples
    --------
    >>> import numpy as np
    >>> import fusedrnn as fr
    >>> gru = fr.GRU(3, 8, seed=0)
    >>> x = np.ones((20, 4, 3), np.float32)  # (T, B, I)
    >>> y, h_n = gru(x)
    >>> first, h = gru(x[:15])  # the same in two calls
    >>> second, h = gru(x[15:], h)
    >>> np.array_equal(y, np.concatenate([first, second]))
    True
    """

    _kind = "GRU"
    _own: ClassVar[dict[str, Any]] = {
        "reset_after": True,
        "activations": None,
        "clip": None,
        "layer_norm": False,
    }

    def __init__(
        self,
        input_size: int,
        hidden_size: int | Sequence[int],
        num_layers: int = 1,
        *,
        bias: bool | str = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        dtype: DTypeLike = np.float32,
        seed: object = None,
        reset_after: bool = True,
        activations: Sequence[ActivationLike] | None = None,
        clip: float | None = None,
        layer_norm: bool = False,
        input_dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        zoneout: float = 0.0,
        drop_connect: float = 0.0,
        learn_initial_state: bool = False,
    ) -> None:
        self.reset_after = _check.flag(reset_after, "reset_after")
        self.activations = _check_options.frozen(activations)
        bound = _check_options.clip(clip)
        self.clip = None if bound == np.inf else bound
        base = "gru" if self.reset_after else "gru_reset_before"
        cell, options = _choose(base, f"{base}_chosen", ("sigmoid", "tanh"), activations, bound)
        others = {
            "reset_after=False": not self.reset_after,
            "activations or clip": options is not None,
        }
        self.layer_norm = _check_options.layer_norm(layer_norm, others)
        cell = "gru_norm" if self.layer_norm else cell
        self._create(
            cell,
            options,
            input_size=input_size,
            hidden_size=hidden_size,
            num_layers=num_layers,
            bias=bias,
            batch_first=batch_first,
            bidirectional=bidirectional,
            dtype=dtype,
            seed=seed,
            dropout=dropout,
            input_dropout=input_dropout,
            recurrent_dropout=recurrent_dropout,
            zoneout=zoneout,
            drop_connect=drop_connect,
            learn_initial_state=learn_initial_state,
        )
