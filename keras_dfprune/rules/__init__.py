"""Rules: what is known of each layer type. These names are for rules of your own.

One file for each kind of layer; `registry.py` lists them all.
"""

from keras_dfprune.rules.activations import describe
from keras_dfprune.rules.base import Barrier, ElementwiseRule, PassRule, Rule
from keras_dfprune.rules.convolution import ConvolutionRule
from keras_dfprune.rules.dense import DenseRule
from keras_dfprune.rules.effects import Affine, Nonlinear
from keras_dfprune.rules.kernels import ConsumerRule, ProducerRule
from keras_dfprune.rules.layer_state import LayerState
from keras_dfprune.rules.registry import register_rule, unregister_rule

__all__ = [
    "Affine",
    "Barrier",
    "ConsumerRule",
    "ConvolutionRule",
    "DenseRule",
    "ElementwiseRule",
    "LayerState",
    "Nonlinear",
    "PassRule",
    "ProducerRule",
    "Rule",
    "describe",
    "register_rule",
    "unregister_rule",
]
