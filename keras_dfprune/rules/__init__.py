"""The registry of rules: from an operation to what is known of its type, or to None.

One file for each kind of layer. A new type is a rule class, an entry here and a row in
`tests/conformance.py`. Types are looked up exactly: a subclass may compute something else.
"""

import keras

from keras_dfprune.rules.activation import ActivationRule, PReLURule
from keras_dfprune.rules.arithmetic import ArithmeticRule, ElementwiseOperationRule
from keras_dfprune.rules.base import Rule
from keras_dfprune.rules.convolution import ConvolutionRule, SeparableConvolutionRule
from keras_dfprune.rules.dense import DenseRule, TimeDistributedRule
from keras_dfprune.rules.joining import JoiningRule
from keras_dfprune.rules.normalization import BatchNormalizationRule
from keras_dfprune.rules.shape import (
    CastRule,
    ConcatenateRule,
    FlattenRule,
    IdentityRule,
    InputRule,
    RepeatVectorRule,
    ReshapeRule,
)
from keras_dfprune.rules.spatial import (
    DepthwiseConvolutionRule,
    MaxPoolingRule,
    PositionRule,
    ZeroPaddingRule,
)

RULES: tuple[Rule, ...] = (
    DenseRule(),
    TimeDistributedRule(),
    ConvolutionRule(),
    SeparableConvolutionRule(),
    ActivationRule(),
    PReLURule(),
    ElementwiseOperationRule(),
    ArithmeticRule(),
    JoiningRule(),
    BatchNormalizationRule(),
    IdentityRule(),
    CastRule(),
    InputRule(),
    FlattenRule(),
    RepeatVectorRule(),
    ReshapeRule(),
    ConcatenateRule(),
    PositionRule(),
    ZeroPaddingRule(),
    MaxPoolingRule(),
    DepthwiseConvolutionRule(),
)
_BY_TYPE = {kind: rule for rule in RULES for kind in rule.types}
_BY_NAME = {name: rule for rule in RULES for name in rule.names}


def lookup(operation: keras.Operation) -> Rule | None:
    """The rule for exactly this type of operation, or None: then it is a barrier."""
    if isinstance(operation, keras.Layer):
        return _BY_TYPE.get(type(operation))
    is_keras = type(operation).__module__.startswith("keras.src.ops.")
    return _BY_NAME.get(type(operation).__name__) if is_keras else None
