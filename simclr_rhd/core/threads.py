"""Work on many items with threads, results in order, a bounded number of items ahead."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def map_ordered(work: Callable[[T], R], items: Iterable[T], *, workers: int) -> Iterator[R]:
    """`map(work, items)`, computed by threads up to `2 * workers` items ahead of the reader.

    So memory does not grow with the number of items. What is not yet begun is dropped when the reader stops.
    With 0 workers each item is computed when it is wanted.
    """
    if workers == 0:
        yield from map(work, items)
        return
    waiting: deque[Future[R]] = deque()
    pool = ThreadPoolExecutor(workers)
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
