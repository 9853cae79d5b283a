"""Docs that cannot lie: whatever a person can set, call or run is written down."""

import re
from pathlib import Path

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


@pytest.mark.parametrize("command", sorted(typer.main.get_command(app).commands))  # type: ignore[attr-defined]
def test_every_command_and_its_options_are_documented(command: str) -> None:
    options = [
        option
        for parameter in typer.main.get_command(app).commands[command].params  # type: ignore[attr-defined]
        for option in parameter.opts
        if option.startswith("--")
    ]
    missing = [name for name in (f"freshet {command}", *options) if name not in PAGES]
    assert missing == []


def test_every_make_target_is_in_the_readme() -> None:
    targets = re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert [target for target in targets if f"make {target}" not in README] == []


def test_links_between_pages_lead_somewhere() -> None:
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
