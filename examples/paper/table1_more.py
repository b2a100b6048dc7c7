"""Write Table 1 for networks and data that the paper doesn't use."""

from examples.paper import table1
from examples.paper.settings import Settings
from examples.paper.sweep import Experiment


def run(settings: Settings) -> None:
    """Write the tables of LeNet-5 on Fashion-MNIST and of LeNet-300-100 on both data sets.

    With `--quick` only the first is written.
    """
    removals = (0, 100, 200, 300, 400, 420, 440, 460, 480, 490)
    table1.make(
        Experiment("lenet5", "fashion_mnist", ("fc1",)), removals, "table1-fashion", settings
    )
    if settings.quick:
        return
    removals = (0, 80, 160, 200, 240, 280, 320, 340, 360, 380)
    for dataset, name in (("mnist", "lenet300"), ("fashion_mnist", "lenet300-fashion")):
        experiment = Experiment("lenet300", dataset, ("fc1", "fc2"))
        table1.make(experiment, removals, f"table1-{name}", settings)
