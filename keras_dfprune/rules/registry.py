"""The registry of rules: from an operation to what is known of its type, or to None.

One file for each kind of layer. A new type is a rule class, an entry here and a row in
`tests/conformance.py`; a user registers one for a layer of their own. Types are looked up exactly:
a subclass may compute something else.
"""

import keras

from keras_dfprune.graph.calls import Call
from keras_dfprune.rules.activation_layers import ActivationRule, PReLURule
from keras_dfprune.rules.arithmetic import ArithmeticRule, ElementwiseOperationRule
from keras_dfprune.rules.attention import SelfAttentionRule
from keras_dfprune.rules.base import Rule
from keras_dfprune.rules.check_user_rule import check_claims, unfit
from keras_dfprune.rules.convolution import ConvolutionRule, SeparableConvolutionRule
from keras_dfprune.rules.dense import DenseRule, EinsumDenseRule, TimeDistributedRule
from keras_dfprune.rules.embedding import EmbeddingRule
from keras_dfprune.rules.features import Stream
from keras_dfprune.rules.joining import JoiningRule
from keras_dfprune.rules.normalization import BatchNormalizationRule
from keras_dfprune.rules.recurrent import RecurrentRule
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
    EinsumDenseRule(),
    EmbeddingRule(),
    RecurrentRule(),
    SelfAttentionRule(),
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
RULE_OF_TYPE = {kind: rule for rule in RULES for kind in rule.types}
_BY_NAME = {name: rule for rule in RULES for name in rule.names}


_REGISTERED: dict[type, Rule] = {}


def register_rule(rule: Rule) -> None:
    """Makes a rule known for layers of your own, so that units pass them.

    The rule's claims are tried on each layer: one that answers differently lets nothing pass.

    Args:
        rule: An instance of a subclass of `keras_dfprune.rules.Rule`, for most of one of the
            roles `ElementwiseRule`, `PassRule`, `DenseRule` and `ConvolutionRule`. Its `types` are
            the exact types that it speaks for; those that inherit from them are others.

    Raises:
        TypeError: If it is no rule, or one of its types is no `keras.Layer`.
        ValueError: If it names no type, or one that has a rule already.

    Example:
    >>> import keras, keras_dfprune as dfprune
    >>> class MyDropout(keras.layers.Dropout):
    ...     pass
    >>> class MyDropoutRule(dfprune.rules.PassRule):
    ...     types = (MyDropout,)
    >>> dfprune.register_rule(MyDropoutRule())
    >>> dfprune.unregister_rule(MyDropout)
    """
    if not isinstance(rule, Rule):
        made = " Pass an instance: register_rule(MyRule())." if isinstance(rule, type) else ""
        raise TypeError(
            f"Expected an instance of a subclass of keras_dfprune.rules.Rule.{made} "
            f"Received: rule={rule!r}"
        )
    if not rule.types or rule.names:
        raise ValueError(
            f"{type(rule).__name__} must name in `types` the layers that it speaks for, and no "
            f"operations in `names`. Received: types={rule.types}, names={rule.names}"
        )
    for kind in rule.types:
        if not (isinstance(kind, type) and issubclass(kind, keras.Layer)):
            raise TypeError(
                f"{type(rule).__name__}.types must hold subclasses of keras.Layer. "
                f"Received: {kind!r}"
            )
        known = RULE_OF_TYPE.get(kind) or _REGISTERED.get(kind)
        if known is not None:
            raise ValueError(
                f"{kind.__name__} has a rule already, {type(known).__name__}. One that was "
                f"registered is taken back by unregister_rule({kind.__name__})."
            )
    _REGISTERED.update(dict.fromkeys(rule.types, rule))


def unregister_rule(kind: type) -> None:
    """Takes back the rule registered for a layer type: it is a barrier again.

    Args:
        kind: One of the rule's `types`.

    Raises:
        ValueError: If none was registered for it.
    """
    if kind not in _REGISTERED:
        names = ", ".join(sorted(known.__name__ for known in _REGISTERED)) or "none"
        raise ValueError(
            f"No rule was registered for this layer type. Received: kind={kind!r}; registered are: "
            f"{names}"
        )
    del _REGISTERED[kind]


def objection(rule: Rule, operation: keras.Operation) -> str | None:
    """Why a layer can't be treated by a rule that a user registered, or None."""
    return unfit(rule, operation) if rule is _REGISTERED.get(type(operation)) else None


def try_registered(rule: Rule, call: Call, stream: Stream | None) -> None:
    """Tries what a registered rule says of a layer on the layer itself; no other rule is tried.

    Args:
        rule: The rule.
        call: The call that units arrive at.
        stream: Those units.

    Raises:
        Barrier: If the layer can't be made anew, or does something else.
    """
    if rule is _REGISTERED.get(type(call.operation)) and stream is not None:
        check_claims(rule, call, stream)


def lookup(operation: keras.Operation) -> Rule | None:
    """The rule for exactly this type of operation, or None: then it is a barrier."""
    if isinstance(operation, keras.Layer):
        return RULE_OF_TYPE.get(type(operation)) or _REGISTERED.get(type(operation))
    is_keras = type(operation).__module__.startswith("keras.src.ops.")
    return _BY_NAME.get(type(operation).__name__) if is_keras else None
