"""RNN, LSTM and GRU for JAX: functions of arrays on fused kernels, with derivatives.

What belongs here: `rnn`, `lstm` and `gru` as operations of JAX, under jit, grad, vmap, scan and
shard_map. On the CPU they are foreign calls of `fusedrnn.core` on XLA's buffers, without copies;
elsewhere they are ``lax.scan``. `weights_of` and `params_of` rename weights. Of fusedrnn only
`keras` imports this room.

    from fusedrnn.jax import lstm
    y, (h_n, c_n) = jax.jit(lstm)(x, {"w_ih": w, "w_hh": r, "b_ih": b})
"""

from ._functions import gru, lstm, rnn
from ._params import params_of, weights_of

__all__ = ["gru", "lstm", "params_of", "rnn", "weights_of"]
