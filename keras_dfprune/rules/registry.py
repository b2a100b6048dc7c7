"""Find the rule of an operation; register rules for a user's own layers.

A new layer type takes a rule class, an entry in `RULES` and a row in
`tests/support/conformance.py`. A rule covers exactly the types that it names, because a subclass
may compute something else.
"""

import keras

from keras_dfprune.graph.calls import Call
from keras_dfprune.graph.keras_private import is_stock
from keras_dfprune.graph.parts import PART_TYPES
from keras_dfprune.rules.activation_layers import ActivationRule, PReLURule
from keras_dfprune.rules.arithmetic import ArithmeticRule, ElementwiseOperationRule
from keras_dfprune.rules.attention import AttentionRule
from keras_dfprune.rules.axes import (
    MaximumOfPositionsRule,
    MeanRule,
    NewAxisRule,
    PadRule,
    PermuteRule,
    ReshapeOperationRule,
    SplitRule,
    SumRule,
)
from keras_dfprune.rules.base import Rule
from keras_dfprune.rules.check_user_rule import check_claims, why_unfit
from keras_dfprune.rules.convolution import ConvolutionRule, TransposedConvolutionRule
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
    IndexingRule,
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
    AttentionRule(),
    ConvolutionRule(),
    TransposedConvolutionRule(),
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
    IndexingRule(),
    PermuteRule(),
    NewAxisRule(),
    ReshapeOperationRule(),
    PadRule(),
    SplitRule(),
    MeanRule(),
    SumRule(),
    MaximumOfPositionsRule(),
    ConcatenateRule(),
    PositionRule(),
    ZeroPaddingRule(),
    MaxPoolingRule(),
    DepthwiseConvolutionRule(),
)
RULE_OF_TYPE = {kind: rule for rule in RULES for kind in rule.types}
# A layer that the graph shows in parts has the rules of its parts.
RULES_OF_PARTS = {
    kind: tuple(RULE_OF_TYPE[part] for part in parts) for kind, parts in PART_TYPES.items()
}
_RULE_OF_NAME = {name: rule for rule in RULES for name in rule.names}

_REGISTERED: dict[type, Rule] = {}


def register_rule(rule: Rule) -> None:
    """Register a rule for layers of your own, so that units pass them.

    The rule is compared with each layer of its types: if the layer computes something else, it
    stays a barrier.

    Args:
        rule: An instance of a subclass of `keras_dfprune.rules.Rule`. Most rules inherit from
            `ElementwiseRule`, `PassRule`, `DenseRule` or `ConvolutionRule`. The rule covers
            exactly the layer types in its `types`, not their subclasses.

    Raises:
        TypeError: If `rule` is not a rule, or one of its types is not a subclass of `keras.Layer`.
        ValueError: If it names no type, or a type that already has a rule.

    Examples:
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
            f"{type(rule).__name__} must name in `types` the layers that it covers, and no "
            f"operations in `names`. Received: types={rule.types}, names={rule.names}"
        )
    for kind in rule.types:
        if not (isinstance(kind, type) and issubclass(kind, keras.Layer)):
            raise TypeError(
                f"{type(rule).__name__}.types must hold subclasses of keras.Layer. "
                f"Received: {kind!r}"
            )
        parts = RULES_OF_PARTS.get(kind, (None,))
        known = RULE_OF_TYPE.get(kind) or parts[-1] or _REGISTERED.get(kind)
        if known is not None:
            raise ValueError(
                f"{kind.__name__} already has a rule, {type(known).__name__}. A rule of your own "
                f"can be removed first: unregister_rule({kind.__name__})."
            )
    _REGISTERED.update(dict.fromkeys(rule.types, rule))


def unregister_rule(kind: type) -> None:
    """Remove the rule registered for a layer type, which is a barrier again.

    Args:
        kind: One of the rule's `types`.

    Raises:
        ValueError: If no rule was registered for it.

    Examples:
        >>> import keras, keras_dfprune as dfprune
        >>> class MyActivation(keras.layers.Activation):
        ...     pass
        >>> class MyRule(dfprune.rules.PassRule):
        ...     types = (MyActivation,)
        >>> dfprune.register_rule(MyRule())
        >>> dfprune.unregister_rule(MyActivation)
    """
    if kind not in _REGISTERED:
        names = ", ".join(sorted(known.__name__ for known in _REGISTERED)) or "none"
        raise ValueError(
            f"No rule was registered for this layer type. Received: kind={kind!r}. Types with a "
            f"registered rule: {names}"
        )
    del _REGISTERED[kind]


def why_registered_unfit(rule: Rule, operation: keras.Operation) -> str | None:
    """Return why a registered rule can't be used for a layer, or None.

    None for the rules of this package, which are not checked.
    """
    return why_unfit(rule, operation) if rule is _REGISTERED.get(type(operation)) else None


def check_registered(rule: Rule, call: Call, stream: Stream | None) -> None:
    """Check a registered rule against what the layer computes.

    Nothing happens for the rules of this package.

    Args:
        rule: The rule.
        call: The call that units arrive at.
        stream: The units that arrive, or None.

    Raises:
        Barrier: If the layer can't be made anew from its config, or computes something else.
    """
    if rule is _REGISTERED.get(type(call.operation)) and stream is not None:
        check_claims(rule, call, stream)


def find_rule(operation: keras.Operation) -> Rule | None:
    """Find the rule for exactly this type of operation; None if it is a barrier."""
    if isinstance(operation, keras.Layer):
        return RULE_OF_TYPE.get(type(operation)) or _REGISTERED.get(type(operation))
    return _RULE_OF_NAME.get(type(operation).__name__) if is_stock(operation) else None
