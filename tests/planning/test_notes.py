"""Notes of a plan on what else it changes."""

import keras

import keras_dfprune as dfprune

layers = keras.layers


def test_nested_models_that_take_or_return_fewer_units_are_named():
    inputs, features = keras.Input((6,)), keras.Input((16,))
    hidden = layers.Dropout(0.1)(layers.Dense(16, "relu", name="units")(inputs))
    encoder = keras.Model(inputs, hidden, name="encoder")
    inner = layers.Dense(8, "relu", name="inner")(features)
    head = keras.Model(features, layers.Dense(2)(inner), name="head")
    outer = keras.Input((6,))
    model = keras.Model(outer, head(encoder(outer)))
    notes = dfprune.plan(model, sparsity={"units": 0.5}).notes
    assert [note.split(" fewer units")[0] for note in notes] == [
        "the nested model encoder returns", "the nested model head takes",
    ]  # fmt: skip
    assert dfprune.plan(model, sparsity={"inner": 0.5}).notes == ()


def test_lora_weights_inside_another_layer_are_named():
    inputs = keras.Input((5, 6))
    wrapped = layers.TimeDistributed(layers.Dense(8, "relu"), name="wrapped")
    model = keras.Model(inputs, layers.Dense(2)(wrapped(inputs)))
    wrapped.layer.enable_lora(2)
    sentence = "the LoRA weights of wrapped are folded into its kernel"
    plan = dfprune.plan(model, sparsity=0.5)
    assert plan.notes == (f"{sentence}, which becomes trainable",)
    assert len(plan.apply(model).get_layer("wrapped").trainable_weights) == 2
    wrapped.trainable = False
    plan = dfprune.plan(model, sparsity=0.5)
    frozen = "frozen layers are pruned, too (trainable_only=True leaves them whole): wrapped"
    assert plan.notes == (frozen, sentence)
    assert plan.apply(model).get_layer("wrapped").trainable_weights == []
