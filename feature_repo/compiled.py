"""Loops compiled to machine code: where whole-array operations would pass over memory once for each of them."""

from collections.abc import Callable
from typing import Any, Final, TypeVar

import numba
from numba import types
from numba.extending import register_jitable

Loop = TypeVar("Loop", bound=Callable[..., Any])


def _read(dtype: types.Type, dimensions: int = 1) -> types.Type:
    """A contiguous array that is only read: one that is mapped from a file will do."""
    return types.Array(dtype, dimensions, "C", readonly=True)


BOOLS: Final = _read(types.boolean)
INT8S: Final = _read(types.int8)
INT32S: Final = _read(types.int32)
INT64S: Final = _read(types.int64)
UINT64S: Final = _read(types.uint64)
FLOAT32S: Final = _read(types.float32)
FLOAT64S: Final = _read(types.float64)
INT32_ROWS: Final = _read(types.int32, 2)
FLOAT32_ROWS: Final = _read(types.float32, 2)
FLOAT64_ROWS: Final = _read(types.float64, 2)
FLOAT32_TABLE: Final = types.Array(types.float32, 2, "A", readonly=True)
"""Only read, in whatever order it lies in memory."""
FLOAT32_COLUMN_OUT: Final = types.Array(types.float32, 1, "A")
FLOAT32_COLUMNS_OUT: Final = types.Array(types.float32, 2, "A")
"""Some columns of a wider table, to be filled."""
INT: Final = types.int64
INT32: Final = types.int32
FLOAT32: Final = types.float32


def together(*arguments: types.Type) -> types.Type:
    """A tuple of such arguments, as one."""
    of: Any = types.Tuple
    return of(arguments)


def compiled(*arguments: types.Type) -> Callable[[Loop], Loop]:
    """Compile a function of such arguments when its module is imported: no request waits for a compiler.

    What was compiled is kept beside the source, or where NUMBA_CACHE_DIR says. It runs without the interpreter's
    lock. Sums may be added in any order, so that they use the whole width of the processor; not a number stays so.
    What it takes from other files must never change, as codes of event types and units of time do not: what was
    compiled is made anew when its own file changes.
    """
    wrapper: Any = numba.njit(arguments, cache=True, nogil=True, fastmath={"reassoc", "contract"})
    return wrapper


def compilable(formula: Loop) -> Loop:
    """Let compiled functions of the same file call it, too: they compile it with themselves. It stays what it is.

    One of another file would be stale: what was compiled is made anew when its own file changes.
    """
    registered: Any = register_jitable(formula)
    return registered
