"""Neural networks as Keras layers.

A layer gets its sizes in `__init__` and makes its weights in `build`. The names of
layers and weights are those of the official code, so that recorded weights load by
name and a reader can find each tensor there.

`layers` has dense layers, norms and recurrent cells, `heads` the MLPs that predict
distributions, `coders` (V3) and `strided` (V1, V2) the encoders and decoders of
observations; `v1`, `v2`, `v3` put a version's networks together. `fast` computes the
same numbers in less time; nothing else depends on how.
"""

from dreamer_tf.nets.coders import Decoder, Encoder
from dreamer_tf.nets.fast import Heads
from dreamer_tf.nets.heads import Head, HeadNet
from dreamer_tf.nets.layers import (
    BlockLinear,
    Blocks,
    Known,
    Norm,
    NormGRUCell,
    SplitDense,
    activation,
    ahead,
    build_stack,
    by_block,
    dense,
    divide,
    gru_update,
    rms_norm,
    split_dense,
    stack,
    unite,
)
from dreamer_tf.nets.strided import StridedDecoder, StridedEncoder

__all__ = [
    "BlockLinear",
    "Blocks",
    "Decoder",
    "Encoder",
    "Head",
    "HeadNet",
    "Heads",
    "Known",
    "Norm",
    "NormGRUCell",
    "SplitDense",
    "StridedDecoder",
    "StridedEncoder",
    "activation",
    "ahead",
    "build_stack",
    "by_block",
    "dense",
    "divide",
    "gru_update",
    "rms_norm",
    "split_dense",
    "stack",
    "unite",
]
