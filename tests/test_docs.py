"""Docs that cannot lie: whatever a person can set, call or run is written down."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from feature_repo.settings import Settings
from training.cli import app

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
LINKED = sorted(set(re.findall(r"\]\((docs/[\w./-]+\.md)\)", README)))
PAGES = README + "".join((ROOT / page).read_text() for page in LINKED)


def test_every_page_under_docs_is_linked_from_the_readme() -> None:
    assert sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")) == LINKED


def test_the_settings_page_is_the_settings() -> None:
    rows = re.findall(
        r"^\| `(\w+)` \| `(.*?)` \| (.*) \|$", (ROOT / "docs/settings.md").read_text(), re.MULTILINE
    )
    assert rows == [
        (f"FRESHET_{name.upper()}", str(field.default), field.description)
        for name, field in Settings.model_fields.items()
    ]


def commands(group: Any, names: str = "freshet") -> Iterator[tuple[str, list[str]]]:
    """What a person types for each command, those of groups too, and its options."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{names} {name}")
        else:
            options = [option for parameter in command.params for option in parameter.opts]
            yield f"{names} {name}", [option for option in options if option.startswith("--")]


@pytest.mark.parametrize(("command", "options"), sorted(commands(typer.main.get_command(app))))
def test_every_command_and_its_options_are_documented(command: str, options: list[str]) -> None:
    assert [name for name in (command, *options) if name not in PAGES] == []


def test_every_make_target_is_in_the_readme() -> None:
    targets = re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert [target for target in targets if f"make {target}" not in README] == []


def test_links_between_pages_lead_somewhere() -> None:
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
