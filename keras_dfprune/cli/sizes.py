"""Read sizes as people type them: 0.5, 50%, 100k, 1.5M, 100kB."""

import re

from keras_dfprune.cli.messages import CommandError

_SIZE = re.compile(
    r"(?P<number>(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?)\s*"
    r"(?P<unit>%|[kKmMgG]i?)?(?P<bytes>[bB])?"
)
_FACTORS = {"": 1, "k": 1_000, "m": 1_000_000, "g": 1_000_000_000}


def read_size(option: str, text: str | None) -> float | int | None:
    """Return a fraction of the whole as a float, or a number as an int; None for None.

    Args:
        option: The option, for the message.
        text: A fraction (`0.5`, `50%`) or a number (`100000`, `100k`, `1.5M`, `100kB`, `1MiB`).

    Raises:
        CommandError: For anything else.
    """
    if text is None:
        return None
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise CommandError(
            f"{option} takes a fraction such as 0.5 or 50%, or a number such as 100000 or 100k. "
            f"Received: {text}"
        )
    number, unit = float(match["number"]), (match["unit"] or "").lower()
    if unit == "%":
        return number / 100
    if not unit and not match["bytes"] and re.search("[.e]", match["number"]):
        return number
    factor = _FACTORS[unit.removesuffix("i")]
    if unit.endswith("i"):
        factor = {1_000: 2**10, 1_000_000: 2**20, 1_000_000_000: 2**30}[factor]
    return int(number * factor)
