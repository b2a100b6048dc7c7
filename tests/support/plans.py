"""Plans for the tests of what is shown of them."""

import dataclasses

import keras

import keras_dfprune as dfprune
from tests.support.models import dense_chain

HOSTILE = "<script>alert('x')</script>&\"$\\x$"


def small_model(units: tuple[int, ...] = (20, 12, 3)) -> keras.Model:
    """Build a chain of Dense layers with the same weights each time."""
    keras.utils.set_random_seed(0)
    model = dense_chain(list(units))
    model.name = "golden"
    return model


def small_plan(**arguments) -> dfprune.PruningPlan:
    """Plan for `small_model`."""
    return dfprune.plan(small_model(), **arguments)


def hostile(plan: dfprune.PruningPlan) -> dfprune.PruningPlan:
    """Put markup into every text of a plan that the caller or the model may choose."""
    groups = [
        dataclasses.replace(
            group,
            layer=HOSTILE,
            layers=(HOSTILE, HOSTILE),
            note=HOSTILE,
            curve=dataclasses.replace(group.curve, measure=HOSTILE),
        )
        for group in plan.groups
    ]
    return dataclasses.replace(
        plan,
        model_name=HOSTILE,
        groups=tuple(groups),
        refusals=tuple(
            dataclasses.replace(r, layer=HOSTILE, reason=HOSTILE) for r in plan.refusals
        ),
        measured=tuple(
            dataclasses.replace(m, output=HOSTILE, source=HOSTILE) for m in plan.measured
        ),
        notes=(HOSTILE,),
        method={"name": HOSTILE, HOSTILE: HOSTILE},
    )
