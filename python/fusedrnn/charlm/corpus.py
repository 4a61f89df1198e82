"""Text for character models: the text that comes with Python, an alphabet, a split."""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import pkgutil
import warnings
from importlib.abc import InspectLoader
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Alphabet", "Corpus", "builtin_text", "decoded", "load_corpus"]

# Modules with many docstrings, written in Python and in every distribution.
DOCUMENTED = (
    "argparse", "ast", "asyncio", "base64", "calendar", "codecs", "collections", "concurrent",
    "configparser", "contextlib", "copy", "csv", "dataclasses", "datetime", "decimal", "difflib",
    "dis", "doctest", "email", "enum", "fractions", "functools", "glob", "gzip", "heapq", "html",
    "http", "inspect", "io", "ipaddress", "itertools", "json", "logging", "mailbox", "math",
    "multiprocessing", "operator", "optparse", "os", "pathlib", "pickle", "pickletools", "pprint",
    "random", "re", "selectors", "shelve", "shutil", "smtplib", "socket", "statistics", "string",
    "struct", "subprocess", "tarfile", "tempfile", "textwrap", "threading", "tokenize", "traceback",
    "types", "typing", "unittest", "urllib", "uuid", "weakref", "xml", "zipfile",
)  # fmt: skip

# The least number of characters for training and for validation.
SHORTEST_TRAINING = 16
SHORTEST_VALIDATION = 2


class Alphabet:
    """The characters that a model knows, in code point order; a token is an index into them.

    Parameters
    ----------
    characters : str
        The characters; duplicates are dropped and the rest sorted.

    Examples
    --------
    >>> from fusedrnn import charlm
    >>> alphabet = charlm.Alphabet("hello")
    >>> alphabet.characters, alphabet.encode("hole")
    ('ehlo', array([1, 3, 2, 0]))
    >>> alphabet.decode(alphabet.encode("hole"))
    'hole'
    """

    def __init__(self, characters: str) -> None:
        self.characters = "".join(sorted(set(_text(characters, "characters"))))
        self._codes = _code_points(self.characters)

    def __len__(self) -> int:
        return len(self.characters)

    def encode(self, text: str, name: str = "text") -> NDArray[np.int64]:
        """Return the tokens of a text, shape (len(text),); `name` is what an error calls it.

        Raises
        ------
        TypeError
            Not a text.
        ValueError
            The text has characters outside the alphabet; the error names them.
        """
        unknown = sorted(set(_text(text, name)) - set(self.characters))
        if unknown:
            shown = " ".join(repr(c) for c in unknown[:8]) + (" ..." if len(unknown) > 8 else "")
            raise ValueError(f"{name}: characters that the model does not know: {shown}")
        return np.searchsorted(self._codes, _code_points(text)).astype(np.int64)

    def decode(self, tokens: NDArray[np.integer[Any]]) -> str:
        """Return the text of tokens, shape (n,)."""
        return "".join(self.characters[int(token)] for token in tokens)


class Corpus(NamedTuple):
    """A text with its origin and the position at which training stops and validation begins.

    Attributes
    ----------
    name : str
        Name to display.
    path : str or None
        The file; None for a text that is not from a file.
    text : str
        The whole text.
    split : int
        ``text[:split]`` is for training, ``text[split:]`` for validation.

    Examples
    --------
    >>> from fusedrnn import charlm
    >>> corpus = charlm.Corpus.of("to be or not to be " * 10, validation=0.2)
    >>> len(corpus.text), corpus.split
    (190, 152)
    """

    name: str
    path: str | None
    text: str
    split: int

    @classmethod
    def of(
        cls, text: str, *, name: str = "text", path: str | None = None, validation: float = 0.1
    ) -> Corpus:
        """Set the end of a text aside.

        Parameters
        ----------
        text : str
            The whole text.
        name : str
            Name to display.
        path : str, optional
            The file that the text came from.
        validation : float
            Share of the characters, at the end, that is not used for training; in (0, 1).

        Returns
        -------
        Corpus

        Raises
        ------
        TypeError
            `text` is not a text.
        ValueError
            The text is too short to learn from, or `validation` out of range.
        """
        _text(text, "text")
        if not 0 < validation < 1:
            raise ValueError(f"validation: expected a share above 0 and below 1, got {validation}")
        split = len(text) - int(len(text) * validation)
        if len(text) - split < SHORTEST_VALIDATION or split < SHORTEST_TRAINING:
            raise ValueError(
                f"{name}: {len(text)} characters are too few to learn from: the end that is set "
                f"aside needs {SHORTEST_VALIDATION}, and what is before it {SHORTEST_TRAINING}"
            )
        return cls(name, path, text, split)

    @property
    def digest(self) -> str:
        """SHA-256 of the text, by which a resumed run recognises it."""
        return hashlib.sha256(self.text.encode("utf-8", "surrogatepass")).hexdigest()


def load_corpus(path: str | Path | None = None, *, validation: float = 0.1) -> Corpus:
    """Read a UTF-8 text file, or the text that comes with Python, and set its end aside.

    Parameters
    ----------
    path : path or None
        The file; None takes `builtin_text`.
    validation : float
        Share of the characters, at the end, that is not used for training.

    Returns
    -------
    Corpus

    Raises
    ------
    OSError
        The file cannot be read.
    ValueError
        It is not UTF-8 or too short to learn from.

    Examples
    --------
    >>> from pathlib import Path
    >>> from fusedrnn import charlm
    >>> _ = Path("lines.txt").write_text("to be or not to be " * 10)
    >>> corpus = charlm.load_corpus("lines.txt")
    >>> corpus.name, corpus.split
    ('lines.txt', 171)
    """
    if path is None:
        name, text = builtin_text()
        return Corpus.of(text, name=name, validation=validation)
    with open(path, "rb") as file:
        data = file.read()
    name = str(path)
    return Corpus.of(decoded(data, name), name=name, path=name, validation=validation)


def decoded(data: bytes, name: str) -> str:
    """Return the text of a file's bytes.

    Parameters
    ----------
    data : bytes
        UTF-8. A byte-order mark at the start is dropped, and every line ending becomes a line feed,
        because both belong to the file and not to the text.
    name : str
        For the error.

    Returns
    -------
    str

    Raises
    ------
    ValueError
        The bytes are not UTF-8.

    Examples
    --------
    >>> from fusedrnn import charlm
    >>> charlm.decoded("naïve".encode(), "lines.txt")
    'naïve'
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        other = "; it looks like UTF-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else ""
        raise ValueError(f"{name}: not UTF-8 text: {error}{other}") from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def builtin_text() -> tuple[str, str]:
    """Return English text of the running Python: a name for it, and the text.

    The text is the language reference that ``help()`` shows (``pydoc_data.topics``, about 465 000
    characters) or, if a distribution removed it, docstrings of the standard library.

    Examples
    --------
    >>> from fusedrnn import charlm
    >>> name, text = charlm.builtin_text()
    >>> len(text) > 10_000
    True
    """
    try:
        topics: dict[str, str] = importlib.import_module("pydoc_data.topics").topics
    except ImportError:
        topics = {}
    text = "\n".join(topics.values())
    if len(text) >= 100_000:
        return "Python's language reference (pydoc_data.topics)", text
    return "docstrings of Python's standard library", _docstrings()


def _docstrings() -> str:
    """Return distinct docstrings of modules, classes and functions, from source; nothing is run."""
    seen: dict[str, None] = {}
    for name in DOCUMENTED:
        for source in _sources(name):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # invalid escapes in other people's source
                tree = ast.parse(source)
            for node in ast.walk(tree):
                if isinstance(
                    node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
                ):
                    text = ast.get_docstring(node)
                    if text and text.isascii():
                        seen.setdefault(text)
    return "\n\n".join(seen)


def _sources(name: str) -> list[str]:
    """Return the source of a module and, for a package, of its direct public submodules."""
    spec = importlib.util.find_spec(name)
    if spec is None:
        return []
    specs = [spec]
    for module in pkgutil.iter_modules(spec.submodule_search_locations or ()):
        if not module.name.startswith(("_", "test")):
            found = module.module_finder.find_spec(module.name, None)
            specs += [found] if found is not None else []
    texts = []
    for one in specs:
        if isinstance(one.loader, InspectLoader):
            # A loader of a single file knows only its own name.
            texts.append(one.loader.get_source(one.name))
    return [text for text in texts if text]


def _text(value: object, name: str) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{name}: expected a text, got {type(value).__name__}")
    return value


def _code_points(text: str) -> NDArray[np.uint32]:
    """Return the code points of a text, shape (len(text),)."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4").astype(np.uint32)
