"""Work on many parts at once."""

import os
from collections.abc import Callable, Iterator, Sequence, Sized
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from tqdm import tqdm

Part = TypeVar("Part", bound=Sized)
Result = TypeVar("Result")


def in_threads(
    work: Callable[[Part], Result], parts: Sequence[Part], name: str, unit: str = "request"
) -> Iterator[Result]:
    """What ``work`` makes of each part, in their order, by a thread for each core; shows progress.

    It helps where the work is numpy's, ONNX Runtime's or LightGBM's, which hold no interpreter lock.
    """
    progress = tqdm(total=sum(map(len, parts)), desc=name, unit=unit, leave=False)
    with progress, ThreadPoolExecutor(os.cpu_count()) as pool:
        for part, result in zip(parts, pool.map(work, parts), strict=True):
            yield result
            progress.update(len(part))
