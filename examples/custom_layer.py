"""Register a rule for a custom layer, so that units in front of it are pruned.

The layer scales each channel, as the blocks of ConvNeXt do. Without a rule it is a barrier.
"""

import argparse

import keras
import numpy as np

import keras_dfprune as dfprune
from keras_dfprune import rules


@keras.saving.register_keras_serializable("examples")
class LayerScale(keras.layers.Layer):
    """Scale of each channel: `y = gamma * x`."""

    def build(self, input_shape):
        self.gamma = self.add_weight(shape=(input_shape[-1],), initializer="ones", name="gamma")

    def call(self, x):
        return x * self.gamma


class LayerScaleRule(rules.ElementwiseRule):
    """Multiplies each feature by its own gamma, which is cut along with it."""

    types = (LayerScale,)
    axes = {"gamma": ("in",)}  # what each axis of a weight counts: features of the input

    def check(self, call, stream):
        if stream.axis != len(call.inputs[0].shape) - 1:
            raise rules.Barrier("scales another axis than the units'")

    def effect(self, call, state):
        gamma = state.variables["gamma"]
        return rules.Affine(gamma, np.zeros_like(gamma))


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="no shorter version here")
    parser.parse_args(argv)

    keras.utils.set_random_seed(0)
    layers = keras.layers
    model = keras.Sequential(
        [keras.Input((16,)), layers.Dense(32, "relu", name="fc"), LayerScale(), layers.Dense(4)]
    )
    model.layers[1].gamma.assign(np.linspace(-2, 2, 32))

    print("Without a rule:", dfprune.plan(model, sparsity=0.5).refusals[0].reason)
    dfprune.register_rule(LayerScaleRule())
    pruned = dfprune.apply(model, sparsity=0.5)
    print("With it:", [tuple(weight.shape) for weight in pruned.weights])
    return pruned


if __name__ == "__main__":
    main()
