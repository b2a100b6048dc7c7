"""Show what was measured on a model before and after the cut, or on their files."""

from typing import Any

from keras_dfprune.report.readable_plan import Profiles
from keras_dfprune.report.table import fewer


def check_pair(profiles: Any) -> None:
    """Make sure that `profiles` is a pair of them.

    Raises:
        TypeError: If it isn't.
    """
    pair = isinstance(profiles, tuple | list) and len(profiles) == 2
    if not pair or not all(hasattr(profile, "latency") for profile in profiles):
        raise TypeError(
            "`profiles` must be two results of keras_dfprune.profile: one of the model before the "
            f"cut and one of the narrow model. Received: {profiles!r}"
        )


def profile_rows(profiles: Profiles | None) -> list[dict[str, Any]]:
    """Return the sizes that were measured on the models or on their files."""
    if profiles is None:
        return []
    before, after = profiles
    in_memory = before.format == after.format == "model"
    rows: list[tuple[str, float | None, float | None, str]] = [
        ("Bytes of the weights" if in_memory else "Bytes", before.bytes, after.bytes, ",.0f"),
        (
            "Peak activation bytes of one row",
            before.peak_activation_bytes,
            after.peak_activation_bytes,
            ",.0f",
        ),
    ]
    if before.latency is not None and after.latency is not None:
        name = "LiteRT latency in ms (median, 1 thread)"
        rows.append((name, before.latency.median, after.latency.median, ".3g"))
    return [
        {
            "name": name,
            "before": format(first, form),
            "after": format(second, form),
            "fewer": fewer(first, second),
        }
        for name, first, second, form in rows
        if first is not None and second is not None
    ]
