"""Baselines for a text model: contexts of fixed length, and general compressors."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["compressed_bits", "context_bits"]

Tokens = NDArray[np.integer[Any]]

# With these window bits zlib writes gzip's header and checksum.
GZIP = 16 + zlib.MAX_WBITS
PIECE = 1 << 18


class Compressor(Protocol):
    """An object that compresses a stream of bytes."""

    def compress(self, data: bytes, /) -> bytes:
        """Take some bytes; return the compressed bytes that are ready."""

    def flush(self) -> bytes:
        """Return the rest."""


def context_bits(
    training: Tokens, validation: Tokens, classes: int, *, max_order: int = 3
) -> list[float]:
    """Bits per token of a static prediction from the last 0, 1, ... `max_order` tokens.

    Interpolated absolute discounting: with n(ctx, c) counted in `training`,

    ``p_k(c) = max(n(ctx, c) - D_k, 0) / n(ctx) + D_k kinds(ctx) / n(ctx) p_{k-1}(c)``,

    where kinds(ctx) is the number of distinct tokens seen after the context and
    p_{-1} = 1 / classes. After a context that was not seen, p_k = p_{k-1}.

    Parameters
    ----------
    training, validation : ndarray of int, shapes (n,) and (m,)
        Tokens in [0, classes). `validation` continues `training`, which has its first contexts.
    classes : int
        Size of the alphabet.
    max_order : int
        The longest context.

    Returns
    -------
    list of float
        One number for each order; NaN if `validation` is empty.

    Notes
    -----
    Only the training part is counted, as the network that is compared learns only from it. Source:
    Ney, Essen and Kneser, "On structuring probabilistic dependences in stochastic language
    modelling", 1994. With n1 and n2 the numbers of (context, token) pairs seen once and twice,
    their estimate is D = n1 / (n1 + 2 n2). Here it is (n1 + 1) / (n1 + 2 n2 + 2): always between 0
    and 1, so that no token is impossible.

    Examples
    --------
    >>> import numpy as np
    >>> from fusedrnn.charlm.baselines import context_bits
    >>> tokens = np.array([0, 1] * 50)
    >>> bits = context_bits(tokens[:80], tokens[80:], 2, max_order=1)
    >>> [round(b, 1) for b in bits]  # one bit without context, almost none after a token
    [1.0, 0.0]
    """
    tokens = np.concatenate([training, validation]).astype(np.int64)
    cut = len(training)
    p = np.full(len(validation), 1.0 / classes)
    # Contexts are renumbered 0, 1, ... after each lengthening, so that codes never overflow.
    context = np.zeros(len(tokens), dtype=np.int64)
    bits = []
    for order in range(max_order + 1):
        if order:
            before = np.roll(tokens, order)
            before[:order] = 0
            context = np.unique(context * classes + before, return_inverse=True)[1].reshape(-1)
        pair = np.unique(context * classes + tokens, return_inverse=True)[1].reshape(-1)
        # The first `order` tokens have no full context, and are not counted.
        pair_count = np.bincount(pair[order:cut], minlength=int(pair.max(initial=0)) + 1)
        first = np.unique(pair[order:cut], return_index=True)[1] + order
        contexts = int(context.max(initial=0)) + 1
        total = np.bincount(context[order:cut], minlength=contexts)[context[cut:]]
        kinds = np.bincount(context[first], minlength=contexts)[context[cut:]]
        once, twice = int(np.sum(pair_count == 1)), int(np.sum(pair_count == 2))
        discount = (once + 1) / (once + 2 * twice + 2)

        seen = np.maximum(pair_count[pair[cut:]] - discount, 0.0)
        known = np.maximum(total, 1)
        p = np.where(total > 0, seen / known + discount * kinds / known * p, p)
        bits.append(float(0.0 - np.log2(p).mean()) if len(p) else float("nan"))
    return bits


def compressed_bits(training: str, validation: str) -> dict[str, tuple[float, float]]:
    """Bits per character of general compressors on the validation text.

    Parameters
    ----------
    training, validation : str
        The two parts of a text.

    Returns
    -------
    dict of str to (float, float)
        For "gzip" and "xz": for the validation text compressed alone, and for what it adds to the
        compressed training text before it. "xz" is missing if Python was built without it.

    Examples
    --------
    >>> from fusedrnn.charlm.baselines import compressed_bits
    >>> text = "to be or not to be " * 100
    >>> alone, added = compressed_bits(text, text)["gzip"]
    >>> added < alone < 8
    True
    """
    squeeze: dict[str, Callable[[], Compressor]] = {
        "gzip": lambda: zlib.compressobj(9, zlib.DEFLATED, GZIP)
    }
    try:
        import lzma
    except ImportError:  # Python built without liblzma
        pass
    else:
        squeeze["xz"] = lambda: lzma.LZMACompressor(preset=9 | lzma.PRESET_EXTREME)

    head, tail = (text.encode("utf-8", "surrogatepass") for text in (training, validation))
    scale = 8.0 / max(len(validation), 1)
    return {
        name: (
            scale * _squeezed(start(), tail),
            scale * (_squeezed(start(), head + tail) - _squeezed(start(), head)),
        )
        for name, start in squeeze.items()
    }


def _squeezed(compressor: Compressor, data: bytes) -> int:
    """Return the size of compressed data; in pieces, because Ctrl-C waits for the end of a call."""
    pieces = (data[start : start + PIECE] for start in range(0, len(data), PIECE))
    return sum(len(compressor.compress(piece)) for piece in pieces) + len(compressor.flush())
