"""The shape of the code, where the import linter cannot see it."""

import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGES = ("feature_repo", "serving", "training")


def modules() -> list[str]:
    return [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for package in PACKAGES
        for path in sorted((ROOT / package).rglob("*.py"))
        if path.name != "__init__.py"
    ]


def run(program: str, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, check=True, timeout=120
    )
    return done.stdout


def test_importing_every_module_prints_nothing_and_makes_no_file(tmp_path: Path) -> None:
    assert run(f"import importlib; [importlib.import_module(name) for name in {modules()!r}]", tmp_path) == ""
    assert list(tmp_path.iterdir()) == []


def test_the_server_loads_neither_torch_nor_the_training_room(tmp_path: Path) -> None:
    program = "import sys, serving.app; print(sorted({'torch', 'training'} & set(sys.modules)))"
    assert run(program, tmp_path) == "[]\n"


def test_the_server_loads_no_library_that_makes_or_draws_what_it_serves(tmp_path: Path) -> None:
    libraries = {"implicit", "matplotlib", "onnx", "onnxscript", "optuna"}
    assert (
        run(f"import sys, serving.app; print(sorted({libraries!r} & set(sys.modules)))", tmp_path) == "[]\n"
    )


def test_every_package_is_part_of_the_distribution() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    there = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for package in (*PACKAGES, "dags")
        for path in (ROOT / package).rglob("__init__.py")
    }
    assert set(listed) == there


def test_no_file_is_a_drawer_for_everything() -> None:
    assert [
        name for name in modules() if name.rpartition(".")[2] in {"utils", "common", "helpers", "misc"}
    ] == []
