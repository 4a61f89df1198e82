"""Plots of what `fusedrnn.inspect` computes, with matplotlib.

Each function draws into ``ax`` if it is given, else into a new figure, and returns the figure. None
writes a file or shows a window: call ``figure.savefig(path)`` or ``matplotlib.pyplot.show()``.
matplotlib is imported when a function first draws; ``pip install 'fusedrnn[plot]'`` installs it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _checks
from ._activity import Projection, Saturation
from ._gradients import GradientNorms

__all__ = ["attention", "gates", "gradient_norms", "losses", "projection", "saturation"]

Array = NDArray[Any]

# Values of these lie between 0 and 1; those of the others have a sign.
SIGMOIDS = ("i", "f", "o", "r", "z")
NAMES = {
    "i": "input gate i",
    "f": "forget gate f",
    "g": "candidate g",
    "o": "output gate o",
    "r": "reset gate r",
    "z": "update gate z",
    "n": "candidate n",
    "a": "activation a",
    "c": "cell state c",
    "h": "hidden state h",
}
MANY_LABELS = 60  # more labels than this are thinned out


def _pyplot() -> Any:
    try:
        from matplotlib import pyplot as plt
    except ImportError as error:
        raise ImportError(
            f"fusedrnn.inspect.plot needs matplotlib: pip install 'fusedrnn[plot]' ({error})"
        ) from error
    return plt


def _axes(ax: Any, width: float, height: float) -> Any:
    """Return `ax`, or the axes of a new figure."""
    if ax is not None:
        return ax
    return _pyplot().subplots(figsize=(width, height), layout="constrained")[1]


def _several(ax: Any, count: int, of: str, shape: tuple[float, float], **options: Any) -> list[Any]:
    """Return the items of `ax`, or the axes of a new figure, one below the other."""
    if ax is None:
        width, height = shape
        size = width, 0.6 + height * count
        made = _pyplot().subplots(
            count, 1, figsize=size, squeeze=False, layout="constrained", **options
        )
        return list(made[1][:, 0])
    if not isinstance(ax, (list, tuple, np.ndarray)):
        ax = [ax]
    return _checks.as_many(np.ravel(ax).tolist(), "ax", count, of)


def gradient_norms(
    norms: GradientNorms | Mapping[str, GradientNorms | ArrayLike],
    *,
    cells: bool = False,
    ax: Any = None,
) -> Any:
    """Draw norms of gradients, or of products of Jacobians, over time on a logarithmic scale.

    Parameters
    ----------
    norms : GradientNorms, or mapping of str to GradientNorms or array_like
        Of one layer, or of several by name. An array is (T,), (L*D, T) or (L*D, T, B), as
        `jacobian_products` returns it. Each layer of a stack gets a line; of a batch it is the mean
        over the sequences that have the step.
    cells : bool
        Draw dL/dc_t in place of dL/dh_t.
    ax : matplotlib Axes, optional
        Where to draw.

    Returns
    -------
    matplotlib Figure
        With a legend. Norms of 0 and infinity have no place on the scale and leave gaps.

    Raises
    ------
    ImportError
        There is no matplotlib.
    TypeError, ValueError
        An argument is not as above, or there are no cell states.

    Examples
    --------
    >>> import numpy as np
    >>> import fusedrnn as fr
    >>> gru = fr.GRU(2, 8, num_layers=2, seed=0)
    >>> norms = fr.inspect.gradient_norms(gru, np.zeros((30, 2)), lambda y: 2 * y)
    >>> figure = fr.inspect.plot.gradient_norms(norms)
    """
    by_name = {"": norms} if isinstance(norms, GradientNorms) else norms
    _checks.mapping(by_name, "norms", "norms")
    lines: list[tuple[str, Array]] = []
    of_states = False
    for name, one in by_name.items():
        at = f"norms[{name!r}]" if name else "norms"
        if isinstance(one, GradientNorms):
            of_states = True
            if cells and one.c is None:
                raise ValueError(f"{at}: has no cell states, and cells is True")
        chosen = (one.c if cells else one.h) if isinstance(one, GradientNorms) else one
        a = _checks.numbers(chosen, at, "(T,), (L*D, T) or (L*D, T, B)", (1, 2, 3))
        a = a[None] if a.ndim == 1 else a
        for k, curve in enumerate(a if a.ndim == 2 else _over_batch(a)):
            which = f"{name} {k}".strip() if name else f"layer {k}"
            lines.append((name if name and len(a) == 1 else which, curve))
    ax = _axes(ax, 7, 3.6)
    for k, (label, curve) in enumerate(lines):
        drawn = np.where((curve > 0) & np.isfinite(curve), curve, np.nan)
        # Where lines lie on one another, those below show through the gaps of those above.
        style = {"linestyle": ("-", "--", "-.")[k % 3], "zorder": 3 - k / len(lines)}
        ax.plot(np.arange(len(curve)), drawn, label=label, linewidth=1.5, **style)
    ax.set_yscale("log")
    ax.set_xlabel("time step t")
    state = "c" if cells else "h"
    ax.set_ylabel(rf"norm of $\partial L/\partial {state}_t$" if of_states else "norm")
    ax.grid(alpha=0.3)
    ax.legend()
    return ax.figure


def _over_batch(a: Array) -> Array:
    """Return the mean over the sequences that have a step; NaN if none has it."""
    real = ~np.isnan(a)
    count = real.sum(axis=2)
    total = np.where(real, a, 0).sum(axis=2)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def gates(
    trace: Mapping[str, ArrayLike],
    labels: Sequence[Any] | str | None = None,
    *,
    ax: Any = None,
) -> Any:
    """Draw gates and states along one sequence as heat maps: time to the right, units downwards.

    Parameters
    ----------
    trace : mapping of str to array_like, shape (T, H)
        From `gate_trace`, or a part of it, such as ``{"f": trace["f"], "c": trace["c"]}``.
    labels : str or sequence, optional
        What stands at each step: the characters of a text, or times. Steps are numbered if it is
        not given. If there are more than 60, only every second, third, ... is written.
    ax : sequence of matplotlib Axes, optional
        Where to draw, one for each item of `trace`.

    Returns
    -------
    matplotlib Figure
        Gates of a sigmoid are coloured from 0 to 1; the others on a scale that is symmetric about
        0, as far as the largest value.

    Raises
    ------
    ImportError
        There is no matplotlib.
    TypeError, ValueError
        An argument is not as above.

    Examples
    --------
    >>> import fusedrnn as fr
    >>> lstm = fr.LSTM(256, 8, seed=0)
    >>> trace = fr.inspect.gate_trace(lstm, tokens=list(b"hello"))
    >>> figure = fr.inspect.plot.gates(trace, "hello")
    """
    _checks.mapping(trace, "trace", "arrays (T, H)")
    maps = {
        name: _checks.numbers(a, f"trace[{name!r}]", "(T, H)", (2,)) for name, a in trace.items()
    }
    steps = len(next(iter(maps.values())))
    for name, a in maps.items():
        if len(a) != steps:
            raise ValueError(f"trace[{name!r}]: expected {steps} steps, got {len(a)}")
    shown = None if labels is None else _checks.as_many(labels, "labels", steps, "step")
    width = min(max(4.5, 0.16 * steps + 2.5), 14)
    axes = _several(ax, len(maps), "item of trace", (width, 1.25), sharex=True)
    for one, (name, a) in zip(axes, maps.items(), strict=True):
        signed = name not in SIGMOIDS
        top = float(np.nanmax(np.abs(a), initial=0.0)) or 1.0
        low, high = (-top, top) if signed else (0.0, 1.0)
        image = one.imshow(
            a.T,
            aspect="auto",
            interpolation="nearest",
            cmap="RdBu_r" if signed else "viridis",
            vmin=low,
            vmax=high,
        )
        one.figure.colorbar(
            image, ax=one, pad=0.01, ticks=[low, (low + high) / 2, high], format="%.2g"
        )
        one.set_title(NAMES.get(name, name), fontsize=9, loc="left", pad=3)
        one.set_ylabel("unit")
        one.yaxis.get_major_locator().set_params(integer=True, nbins=3)
    _label_steps(axes, shown, steps)
    return axes[0].figure


def _label_steps(axes: Sequence[Any], labels: list[Any] | None, steps: int) -> None:
    """Write the labels below the last axes."""
    axes[-1].set_xlabel("time step t" if labels is None else "")
    if labels is None:
        return
    texts = [_visible(label) for label in labels]
    every = -(-steps // MANY_LABELS)
    long = max(map(len, texts), default=0) > 2
    for one in axes[-1:]:
        one.set_xticks(np.arange(0, steps, every), texts[::every])
        one.tick_params(axis="x", labelsize=8, rotation=90 if long else 0, length=2)


def _visible(label: Any) -> str:
    """Return a label's text, with white space made visible."""
    return {" ": "␣", "\n": "\\n", "\t": "\\t"}.get(str(label), str(label).replace("$", r"\$"))


def saturation(found: Mapping[str, Saturation], *, ax: Any = None) -> Any:
    """Draw the histogram of each gate, with the shares near its two ends.

    Parameters
    ----------
    found : mapping of str to Saturation
        Of one layer: an item of what `saturation` returned.
    ax : sequence of matplotlib Axes, optional
        Where to draw, one for each gate.

    Returns
    -------
    matplotlib Figure
        One histogram for each gate; its title says which share of the values is near each end.

    Raises
    ------
    ImportError
        There is no matplotlib.
    TypeError, ValueError
        An argument is not as above.

    Examples
    --------
    >>> import numpy as np
    >>> import fusedrnn as fr
    >>> found = fr.inspect.saturation(fr.GRU(3, 8, seed=0), np.zeros((20, 3)))
    >>> figure = fr.inspect.plot.saturation(found[0])
    """
    _checks.mapping(found, "found", "Saturation")
    for name, one in found.items():
        if not isinstance(one, Saturation):
            raise TypeError(f"found[{name!r}]: expected Saturation, got {type(one).__name__}")
    axes = _several(ax, len(found), "gate", (5.0, 1.4))
    for one, (name, s) in zip(axes, found.items(), strict=True):
        total = max(int(s.counts.sum()), 1)
        one.bar(
            s.edges[:-1],
            100 * s.counts / total,
            width=np.diff(s.edges),
            align="edge",
            edgecolor="white",
            linewidth=0.4,
        )
        one.set_xlim(s.edges[0], s.edges[-1])
        one.set_title(
            f"{NAMES.get(name, name)}: {s.low:.0%} near {s.edges[0]:g}, "
            f"{s.high:.0%} near {s.edges[-1]:g}",
            fontsize=9,
            loc="left",
            pad=3,
        )
        one.set_ylabel("% of values")
    axes[-1].set_xlabel("value of the gate")
    return axes[0].figure


def projection(
    points: Projection | ArrayLike,
    colours: ArrayLike | None = None,
    *,
    line: bool = False,
    ax: Any = None,
) -> Any:
    """Draw projected states as points in the plane, coloured by time or by label.

    Parameters
    ----------
    points : Projection or array_like, shape (T, B, k) or (T, k)
        From `project`, with k at least 2; the first two are drawn.
    colours : array_like, shape (T, B) or (T,), optional
        Numbers, which get a colour bar, or texts, of which each gets a colour and an entry of the
        legend. The time step if not given.
    line : bool
        Join the points of each sequence in the order of time.
    ax : matplotlib Axes, optional
        Where to draw.

    Returns
    -------
    matplotlib Figure
        Axes carry the share of the variance if `points` is a Projection.

    Raises
    ------
    ImportError
        There is no matplotlib.
    TypeError, ValueError
        An argument is not as above.

    Examples
    --------
    >>> import numpy as np
    >>> import fusedrnn as fr
    >>> h, _ = fr.inspect.states(fr.GRU(2, 8, seed=0), np.ones((30, 2)))
    >>> found = fr.inspect.project(h[0])
    >>> figure = fr.inspect.plot.projection(found, line=True)
    """
    given = points.points if isinstance(points, Projection) else points
    a = _checks.numbers(given, "points", "(T, B, k) or (T, k), k at least 2", (2, 3))
    if a.shape[-1] < 2:
        raise ValueError(f"points: expected shape (T, B, k) or (T, k), k at least 2, got {a.shape}")
    outer = a.shape[:-1]
    by_time = colours is None
    if colours is None:
        colours = np.broadcast_to(np.arange(outer[0]).reshape(-1, *[1] * (a.ndim - 2)), outer)
    values = np.asarray(colours)
    if values.shape != outer:
        raise ValueError(f"colours: expected shape {outer}, got {values.shape}")
    ax = _axes(ax, 5.6, 4.4)
    if line:
        for b in range(a[:, None].shape[-2] if a.ndim == 2 else a.shape[1]):
            way = a if a.ndim == 2 else a[:, b]
            ax.plot(way[:, 0], way[:, 1], color="0.75", linewidth=0.8, zorder=1)
            if a.ndim == 2:
                break
    if values.dtype.kind in "fiu":
        drawn = ax.scatter(a[..., 0].ravel(), a[..., 1].ravel(), c=values.ravel(), s=14, zorder=2)
        ax.figure.colorbar(drawn, ax=ax, label="time step t" if by_time else "")
    else:
        texts = values.astype(str)
        for text in dict.fromkeys(texts.ravel().tolist()):
            at = texts == text
            ax.scatter(a[at][:, 0], a[at][:, 1], s=14, label=_visible(text), zorder=2)
        ax.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    for k, name in enumerate(("first", "second")):
        share = (
            f" ({points.explained[k]:.0%} of the variance)"
            if isinstance(points, Projection)
            else ""
        )
        (ax.set_ylabel if k else ax.set_xlabel)(f"{name} component{share}")
    return ax.figure


def losses(
    curves: Mapping[str, ArrayLike], *, log: bool = False, unit: str = "epoch", ax: Any = None
) -> Any:
    """Draw losses, or other numbers of a training run, over epochs.

    Parameters
    ----------
    curves : mapping of str to array_like, shape (n,)
        Lists by name, such as ``{"training": [...], "validation": [...]}``; lengths may differ.
    log : bool
        Whether the scale is logarithmic.
    unit : str
        What one number stands for; it labels the axis and is counted from 1.
    ax : matplotlib Axes, optional
        Where to draw.

    Returns
    -------
    matplotlib Figure
        With a legend.

    Raises
    ------
    ImportError
        There is no matplotlib.
    TypeError, ValueError
        An argument is not as above.

    Examples
    --------
    >>> import fusedrnn as fr
    >>> curves = {"training": [1.0, 0.5, 0.3], "validation": [1.1, 0.7, 0.6]}
    >>> figure = fr.inspect.plot.losses(curves)
    """
    _checks.mapping(curves, "curves", "lists of numbers")
    lines = {
        name: _checks.numbers(a, f"curves[{name!r}]", "(n,)", (1,)) for name, a in curves.items()
    }
    ax = _axes(ax, 6, 3.6)
    for name, a in lines.items():
        # A single number would be invisible as a line.
        ax.plot(np.arange(1, len(a) + 1), a, label=name, marker="." if len(a) < 30 else None)
    if log:
        ax.set_yscale("log")
    ax.set_xlabel(unit)
    ax.set_ylabel("loss")
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.grid(alpha=0.3)
    ax.legend()
    return ax.figure


def attention(
    weights: ArrayLike,
    queries: Sequence[Any] | str | None = None,
    keys: Sequence[Any] | str | None = None,
    *,
    ax: Any = None,
) -> Any:
    """Draw the attention weights of one sequence: queries downwards, keys to the right.

    Parameters
    ----------
    weights : array_like, shape (Tq, Tk)
        Of one sequence: ``weights[:, b]`` of what `nn.Attention` returned, (Tq, B, Tk).
    queries, keys : str or sequence, optional
        What stands at each query and at each key: words, characters, times.
    ax : matplotlib Axes, optional
        Where to draw.

    Returns
    -------
    matplotlib Figure
        Coloured from 0 to 1, with a colour bar.

    Raises
    ------
    ImportError
        There is no matplotlib.
    TypeError, ValueError
        An argument is not as above.

    Examples
    --------
    >>> import numpy as np
    >>> import fusedrnn as fr
    >>> figure = fr.inspect.plot.attention(np.eye(5), "hello", "olleh")
    """
    a = _checks.numbers(weights, "weights", "(Tq, Tk), of one sequence", (2,))
    rows = None if queries is None else _checks.as_many(queries, "queries", a.shape[0], "query")
    columns = None if keys is None else _checks.as_many(keys, "keys", a.shape[1], "key")
    ax = _axes(ax, min(2.2 + 0.3 * a.shape[1], 12), min(1.4 + 0.3 * a.shape[0], 10))
    image = ax.imshow(a, aspect="auto", interpolation="nearest", vmin=0, vmax=1)
    ax.figure.colorbar(image, ax=ax, label="weight")
    if rows is not None:
        ax.set_yticks(np.arange(len(rows)), [_visible(one) for one in rows])
    if columns is not None:
        texts = [_visible(one) for one in columns]
        ax.set_xticks(np.arange(len(texts)), texts)
        if max(map(len, texts), default=0) > 2:
            ax.tick_params(axis="x", rotation=90)
    ax.set_xlabel("key")
    ax.set_ylabel("query")
    return ax.figure
