"""A character-level language model from text to text; `fusedrnn train` and `generate` run it.

Here belongs what makes, trains, measures, keeps and asks one kind of model: text and its alphabet,
the model, the training loop, the file of a run, baselines. It is written as a user would write it,
on the public names of `fusedrnn` and `fusedrnn.nn`; beside these it knows two modules that know no
layer, `_interrupts` (an update happens whole or not at all) and `_storage` (a file is written whole
or not at all). The command line imports it; nothing else does.
"""

from .corpus import Alphabet, Corpus, builtin_text, decoded, load_corpus
from .lm import CharLM
from .sample import generate
from .train import Trainer

__all__ = [
    "Alphabet",
    "CharLM",
    "Corpus",
    "Trainer",
    "builtin_text",
    "decoded",
    "generate",
    "load_corpus",
]
