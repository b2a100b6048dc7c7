"""Work beside other work: a call in a thread of its own, and what it returned."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any


def beside(work: Callable[..., Any], *arguments: Any) -> Future:
    """Calls a function that needs a processor, but hardly the interpreter, while others go on.

    Returns:
        What it returns, as a `Future`; an error is raised where the result is asked for.
    """
    found = Future()

    def run() -> None:
        try:
            found.set_result(work(*arguments))
        except BaseException as error:
            found.set_exception(error)

    # executors take no more work once the main thread has ended, while another may still train
    threading.Thread(target=run).start()
    return found
