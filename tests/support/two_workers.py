"""Plan in one of two processes that work together, and print the plan; see test_strategy.py.

`python -m tests.support.two_workers PORT PORT TASK`
"""

import json
import os
import sys


def planned(strategy=None):
    """Plan a layer in several tiles with a copy among its units."""
    import keras_dfprune as dfprune
    from keras_dfprune.methods.saliency import neighbours
    from tests.support.models import dense_chain, plant_copy

    neighbours.ROWS = 8
    model = dense_chain([32, 3], inputs=12)
    plant_copy(model.get_layer("fc1"), 3, 20)
    (group,) = dfprune.plan(model, method="saliency", sparsity=0.6, strategy=strategy).groups
    return group.removed.tolist(), group.survivor.tolist(), group.saliency.tolist(), group.cutoff


if __name__ == "__main__":
    ports, task = sys.argv[1:3], int(sys.argv[3])
    cluster = {"worker": [f"localhost:{port}" for port in ports]}
    os.environ["TF_CONFIG"] = json.dumps(
        {"cluster": cluster, "task": {"type": "worker", "index": task}}
    )
    import tensorflow as tf

    both = tf.distribute.MultiWorkerMirroredStrategy()
    print(json.dumps([both.num_replicas_in_sync, planned(both)]))
