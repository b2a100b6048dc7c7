"""Prune a perceptron with torch-pruning: `compare_torch.py GIVEN.npz MADE.npz`.

`benchmarks/compare.py` runs this in an environment with torch and torch-pruning.
"""

import sys
import time

import numpy as np
import torch
import torch_pruning as tp


def build(arrays: list[np.ndarray]) -> torch.nn.Sequential:
    """Build the network of these weights and biases."""
    parts: list[torch.nn.Module] = []
    for kernel, bias in zip(arrays[::2], arrays[1::2], strict=True):
        layer = torch.nn.Linear(*kernel.shape)
        layer.weight.data = torch.tensor(kernel.T.copy())
        layer.bias.data = torch.tensor(bias)
        parts += [layer, torch.nn.ReLU()]
    return torch.nn.Sequential(*parts[:-1])


def pruned(arrays: list[np.ndarray], ratio: float) -> torch.nn.Sequential:
    """Drop this share of the units of each hidden layer, the smallest first."""
    model, example = build(arrays), torch.zeros(1, len(arrays[0]))
    pruner = tp.pruner.BasePruner(
        model,
        example,
        importance=tp.importance.GroupMagnitudeImportance(p=2),
        pruning_ratio=ratio,
        ignored_layers=[model[-1]],
    )
    pruner.step()
    return model


def count(model: torch.nn.Module) -> int:
    """Count the parameters."""
    return sum(parameter.numel() for parameter in model.parameters())


def main(given: str, made: str) -> None:
    """Find the smallest ratio within the limit, and prune by it."""
    with np.load(given) as file:
        names = sorted(name for name in file if name.startswith("w"))
        arrays, limit = [file[name] for name in names], int(file["limit"])
    ratio = next(r for r in np.linspace(0, 1, 301) if count(pruned(arrays, r)) <= limit)
    start = time.perf_counter()
    model = pruned(arrays, float(ratio))
    seconds = time.perf_counter() - start
    narrow = []
    for part in model:
        if isinstance(part, torch.nn.Linear):
            narrow += [part.weight.detach().numpy().T, part.bias.detach().numpy()]
    np.savez(made, seconds=seconds, **dict(zip(names, narrow, strict=True)))


if __name__ == "__main__":
    main(*sys.argv[1:])
