"""Checks of the machine and of what is installed on it."""

import ctypes
import platform
import shutil
import tempfile
from importlib.metadata import PackageNotFoundError, metadata, requires, version
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import psutil
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from feature_repo.settings import Settings
from training.doctor.finding import Finding, Level

DISTRIBUTION: Final = "freshet"
GIB: Final = 2**30
MEMORY_GIB: Final = 4
"""What all processes of the platform take together."""
DISK_GIB: Final = 2


def python(_: Settings) -> Finding:
    """The release that runs is one that Freshet is made for."""
    running, wanted = platform.python_version(), metadata(DISTRIBUTION)["Requires-Python"]
    if SpecifierSet(wanted).contains(running):
        return Finding(Level.OK, running)
    return Finding(
        Level.PROBLEM, f"{running}, Freshet needs {wanted}", "run `make clean install PYTHON=python3.11`"
    )


def packages(_: Settings) -> Finding:
    """What Freshet requires is installed, in the release that it is pinned to."""
    requirements = [Requirement(line) for line in requires(DISTRIBUTION) or []]
    needed = [item for item in requirements if item.marker is None or item.marker.evaluate({"extra": ""})]
    unfit = [text for item in needed if (text := _misfit(item))]
    if not unfit:
        return Finding(Level.OK, f"all {len(needed)} fit")
    return Finding(Level.PROBLEM, "; ".join(unfit), "run `make install`")


def _misfit(requirement: Requirement) -> str | None:
    try:
        installed = version(requirement.name)
    except PackageNotFoundError:
        return f"{requirement.name} is missing"
    if requirement.specifier.contains(installed, prereleases=True):
        return None
    return f"{requirement.name} is {installed}, not {requirement.specifier}"


def lightgbm(_: Settings) -> Finding:
    """LightGBM finds the system's libraries. Its library alone is loaded: the package takes seconds."""
    package = find_spec("lightgbm")
    folders = (package and package.submodule_search_locations) or []
    library = next((path for folder in folders for path in Path(folder).glob("lib/lib_lightgbm.*")), None)
    if library is None:
        return Finding(Level.PROBLEM, "is not installed", "run `make install`")
    try:
        ctypes.CDLL(str(library))
    except OSError as error:
        return Finding(Level.PROBLEM, f"does not load ({error})", "run `apt-get install libgomp1`")
    return Finding(Level.OK, "loads")


def memory(_: Settings) -> Finding:
    """There is room for the whole platform."""
    state = psutil.virtual_memory()
    found = f"{state.available / GIB:.1f} GiB available of {state.total / GIB:.1f}"
    if state.available >= MEMORY_GIB * GIB:
        return Finding(Level.OK, found)
    return Finding(
        Level.WARNING,
        f"{found}; the whole platform takes {MEMORY_GIB} (what of it runs now counts as taken)",
        "stop other programs, or run `freshet serve` without Airflow",
    )


def disk(settings: Settings) -> Finding:
    """The home can be written to and has room."""
    home = settings.home.absolute()
    folder = next(path for path in (home, *home.parents) if path.exists())
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        return Finding(
            Level.PROBLEM,
            f"{folder} cannot be written to ({error.strerror})",
            "set FRESHET_HOME to a folder that can",
        )
    free = shutil.disk_usage(folder).free / GIB
    if free >= DISK_GIB:
        return Finding(Level.OK, f"{free:.1f} GiB free at {home}")
    return Finding(
        Level.PROBLEM,
        f"{free:.1f} GiB free at {home}, less than {DISK_GIB}",
        "free some (docs/operations.md says what may go), or set FRESHET_HOME to a larger disk",
    )
