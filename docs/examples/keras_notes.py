"""The Keras programs of a first course on recurrent networks, with one import changed.

    KERAS_BACKEND=torch python docs/examples/keras_notes.py        # or jax, or tensorflow

The recurrent layers come from fusedrnn.keras, and everything else is Keras. The programs also run
with TensorFlow's name of Keras: write `from tensorflow.keras` for each `from keras`. Prints the
loss of the first and the last epoch of each program, and who computed its recurrent layers.
"""

import numpy as np
from keras.layers import Dense, Embedding, Input, RepeatVector, TimeDistributed
from keras.models import Sequential
from keras.utils import set_random_seed, to_categorical

from fusedrnn.keras import GRU, LSTM, SimpleRNN, report  # was: from keras.layers import ...


def series(layer):
    """The next value of a series from the ten before it: many to one."""
    values = np.sin(np.arange(120) / 5)
    x = np.stack([values[k : k + 10] for k in range(110)]).reshape(110, 10, 1)
    y = values[10:]

    model = Sequential()
    model.add(layer(50, input_shape=(10, 1)))
    model.add(Dense(1))
    model.compile(optimizer="adam", loss="mse")
    history = model.fit(x, y, epochs=25, verbose=0)
    return model, history.history["loss"]


def hello():
    """The letter after 'hell', one-hot in the nine characters of 'hello, world'."""
    letters = sorted(set("hello, world"))
    ids = [letters.index(letter) for letter in "hello"]
    x = to_categorical(ids[:4], num_classes=9).reshape(1, 4, 9)
    y = to_categorical(ids[4:], num_classes=9)

    model = Sequential()
    model.add(SimpleRNN(units=3, input_shape=(4, 9)))
    model.add(Dense(9, activation="softmax"))
    model.compile(optimizer="adam", loss="categorical_crossentropy")
    history = model.fit(x, y, epochs=150, verbose=0)
    return model, history.history["loss"]


def one_to_many():
    """A sequence of five steps from one vector."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((64, 3))
    y = x[:, None, :1] * np.linspace(1, 0, 5)[None, :, None]

    model = Sequential()
    model.add(Input(shape=(3,)))
    model.add(RepeatVector(5))
    model.add(LSTM(16, return_sequences=True))
    model.add(TimeDistributed(Dense(1)))
    model.compile(optimizer="adam", loss="mse")
    history = model.fit(x, y, epochs=40, verbose=0)
    return model, history.history["loss"]


def many_to_many():
    """The running sum of a sequence, at each of its steps."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((64, 6, 1))
    y = np.cumsum(x, axis=1)

    model = Sequential()
    model.add(GRU(16, return_sequences=True, input_shape=(6, 1)))
    model.add(TimeDistributed(Dense(1)))
    model.compile(optimizer="adam", loss="mse")
    history = model.fit(x, y, epochs=40, verbose=0)
    return model, history.history["loss"]


def topics():
    """One of three topics for each text of twelve words."""
    rng = np.random.default_rng(0)
    topic = rng.integers(0, 3, 60)
    words = rng.integers(1, 10, (60, 12)) + 10 * topic[:, None]

    model = Sequential()
    model.add(Embedding(input_dim=40, output_dim=8, mask_zero=True))
    model.add(LSTM(16))
    model.add(Dense(3, activation="softmax"))
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    history = model.fit(words, topic, epochs=40, verbose=0)
    return model, history.history["loss"]


PROGRAMS = {
    "series, SimpleRNN": lambda: series(SimpleRNN),
    "series, LSTM": lambda: series(LSTM),
    "series, GRU": lambda: series(GRU),
    "hello": hello,
    "one to many": one_to_many,
    "many to many": many_to_many,
    "topics": topics,
}


def main() -> None:
    for name, program in PROGRAMS.items():
        set_random_seed(0)
        model, losses = program()
        who = ["the kernels" if line.fused else line.why for line in report(model, training=True)]
        print(f"{name:18} loss {losses[0]:.4f} -> {losses[-1]:.4f}   computed by {', '.join(who)}")


if __name__ == "__main__":
    main()
