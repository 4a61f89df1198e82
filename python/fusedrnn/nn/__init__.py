"""Models from NumPy and fusedrnn's kernels alone: losses, optimiser, dense layer, text model."""

from ..layers import Dense
from .corpus import Alphabet, Corpus, builtin_text, load_corpus
from .lm import CharLM
from .losses import Loss, mse, softmax_cross_entropy
from .optim import Adam, clip_global_norm
from .sample import generate
from .train import Trainer

__all__ = [
    "Adam",
    "Alphabet",
    "CharLM",
    "Corpus",
    "Dense",
    "Loss",
    "Trainer",
    "builtin_text",
    "clip_global_norm",
    "generate",
    "load_corpus",
    "mse",
    "softmax_cross_entropy",
]
