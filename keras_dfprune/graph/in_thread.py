"""Run a function in a thread of its own."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import ParamSpec, TypeVar

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def run_in_thread(
    function: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs
) -> Future[Result]:
    """Run a function in a new thread, and return its result as a `Future`.

    An error of the function is raised by `Future.result`.
    """
    future: Future[Result] = Future()

    def run() -> None:
        try:
            future.set_result(function(*args, **kwargs))
        except BaseException as error:
            future.set_exception(error)

    # Not an executor: it refuses work once the main thread has ended, and a training may go on in
    # another thread then.
    threading.Thread(target=run).start()
    return future
