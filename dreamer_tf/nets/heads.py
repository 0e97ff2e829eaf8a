"""MLP heads: from features of the model state to distributions."""

from collections.abc import Callable

import keras
from keras import layers

from dreamer_tf.nets.layers import (
    activation,
    build_stack,
    dense,
    dense_stack,
    scope,
    stack,
)


class Head:
    """A network and the distribution that its outputs describe.

    Args:
      net: a layer, such as `HeadNet`.
      dist: makes a distribution (or several, by name) from what the layer returns.
    """

    def __init__(self, net: layers.Layer, dist: Callable):
        self.net, self.dist = net, dist

    def __call__(self, *inputs):
        return self.dist(self.net(*inputs))


@keras.saving.register_keras_serializable("dreamer_tf")
class HeadNet(layers.Layer):
    """MLP with parallel linear outputs, `[..., in] -> {name: [..., width]}`.

    Args:
      depth, units: hidden layers and their width.
      outputs: name -> width of each output.
      act: activation.
      norm: "rms" (DreamerV3), "layer" or "none", see `dense_stack`.
      outscale: factor of the outputs' initial kernels (DreamerV3).
      hidden, normed: patterns of the names of hidden layers and of their norms, below
        a group of layers if there is a slash.
      group: name of the group of the outputs, if they have one.
    """

    def __init__(
        self,
        depth,
        units,
        outputs,
        act="silu",
        norm="rms",
        outscale=1.0,
        hidden="mlp/linear{}",
        normed="mlp/norm{}",
        group="head",
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.config = dict(
            depth=depth,
            units=units,
            outputs=dict(outputs),
            act=act,
            norm=norm,
            outscale=outscale,
            hidden=hidden,
            normed=normed,
            group=group,
        )
        self.units, self.group = units, group
        self.act = activation(act)
        *above, hidden = hidden.split("/")
        self.above = "/".join(above)
        self.linears, self.norms = dense_stack(
            [units] * depth, norm, hidden, normed.split("/")[-1]
        )
        if norm == "rms":
            self.outputs = {k: dense(n, k, outscale) for k, n in outputs.items()}
        else:
            # In float32 whatever the precision: bfloat16 would round a return of 150
            # to the next whole number.
            self.outputs = {
                k: layers.Dense(n, name=k, dtype="float32") for k, n in outputs.items()
            }

    def build(self, input_shape):
        with scope(self.above):
            width = build_stack(self.linears, self.norms, input_shape[-1])
        with scope(self.group):
            for output in self.outputs.values():
                output.build((None, width))

    def call(self, x):
        return self._outputs(stack(x, self.linears, self.norms, self.act))

    def after_first(self, x):
        """What follows on the first linear layer, from its result `[..., units]`."""
        x = self.act(self.norms[0](x))
        return self._outputs(stack(x, self.linears[1:], self.norms[1:], self.act))

    def _outputs(self, x):
        return {k: output(x) for k, output in self.outputs.items()}

    def get_config(self):
        return super().get_config() | self.config
