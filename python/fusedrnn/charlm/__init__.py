"""A character-level language model; `fusedrnn train` and `fusedrnn generate` use it.

What belongs here: text and its alphabet, the model, the training loop, the file of a run, text from
a model, and baselines. This room is written as a user would write it, on the public names of
`fusedrnn` and `fusedrnn.nn`. Besides these it uses `_interrupts` (an update is complete or has no
effect) and `_storage` (a file is written completely or not at all). Only the command line imports
it.
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
