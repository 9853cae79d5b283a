"""All checks, and their findings for a person to read."""

from collections.abc import Callable, Mapping
from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from feature_repo.errors import FreshetError
from feature_repo.settings import Settings
from training.doctor import machine, state
from training.doctor.finding import Finding, Level
from training.doctor.ports import PORT_CHECKS

CHECKS: Final[Mapping[str, Callable[[Settings], Finding]]] = {
    "Python": machine.python,
    "packages": machine.packages,
    "LightGBM": machine.lightgbm,
    "memory": machine.memory,
    "disk": machine.disk,
    **PORT_CHECKS,
    "Redis": state.redis,
    "backlog": state.backlog,
    "archive": state.archive,
    "model": state.model,
}
"""Every check by its name; one rests on those before it."""

COLORS: Final = {Level.OK: "green", Level.WARNING: "yellow", Level.PROBLEM: "red"}


def examine(settings: Settings) -> dict[str, Finding]:
    """What each of CHECKS finds. Whatever cannot be read is a problem, and its error says what to do."""
    findings = {}
    for name, check in CHECKS.items():
        try:
            findings[name] = check(settings)
        except (FreshetError, ImportError, OSError) as error:
            findings[name] = Finding(Level.PROBLEM, "cannot be used", str(error))
    return findings


def show(findings: Mapping[str, Finding], console: Console) -> None:
    """Print a table on a terminal and plain lines elsewhere, then the number of problems and warnings."""
    if console.is_terminal:
        console.print(_table(findings))
    else:
        console.out(_lines(findings), highlight=False)
    levels = [finding.level for finding in findings.values()]
    console.out(
        f"problems: {levels.count(Level.PROBLEM)}, warnings: {levels.count(Level.WARNING)}", highlight=False
    )


def _table(findings: Mapping[str, Finding]) -> Table:
    table = Table(show_header=False)
    for name, finding in findings.items():
        found = Text(finding.found)
        if finding.cure:
            found.append(f"\n{finding.cure}", "bold")
        table.add_row(Text(finding.level, COLORS[finding.level]), name, found)
    return table


def _lines(findings: Mapping[str, Finding]) -> str:
    names = max(map(len, findings))
    lines = []
    for name, finding in findings.items():
        lines.append(f"{finding.level:<7}  {name:<{names}}  {finding.found}")
        if finding.cure:
            lines.append(f"{'':<7}  {'':<{names}}  -> {finding.cure}")
    return "\n".join(lines)
