"""What was found in a part of the log, for a person (Markdown, one line) and for a program (JSON)."""

from collections.abc import Collection
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, Self

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from feature_repo.durable_file import replace_file
from feature_repo.errors import InputError
from feature_repo.schema import DAY, SECOND, Event, shopper_key

_ERASED: Final = "of a shopper who was erased"
"""In place of an example."""


class Verdict(StrEnum):
    """Whether a part of the log may be learned from."""

    PASSED = "passed"
    STOPPED = "stopped"


class Action(StrEnum):
    """What a finding led to. Only ``STOPS`` keeps a window from being learned from."""

    REMOVED = "removed"
    REPAIRED = "repaired"
    WARNING = "warning"
    STOPS = "stops"


@dataclass(frozen=True)
class Finding:
    """One rule and the events that it hit.

    rows: how many; share: of the events that the rule looks at, 0..1; example: one of them, or the figures
    compared; advice: what to do next.
    """

    rule: str
    rows: int
    share: float
    action: Action
    example: str
    advice: str


@dataclass(frozen=True)
class QualityReport:
    """The quality of the log from ``start`` to ``end`` (microseconds since 1970, UTC, end excluded).

    events: rows before cleaning; kept: rows after it; unchecked: which checks were skipped, and why; forced: the
    reason given to go on although a finding stops.
    """

    start: int
    end: int
    events: int
    kept: int
    findings: tuple[Finding, ...]
    unchecked: tuple[str, ...]
    forced: str | None = None

    @property
    def name(self) -> str:
        """Name of the window and of its files: ``2026-01-03`` for a day, else both of its ends."""
        if self.start % DAY == 0 and self.end == self.start + DAY:
            return _moment(self.start).strftime("%Y-%m-%d")
        return "_".join(_moment(time).strftime("%Y-%m-%dT%H%M%S") for time in (self.start, self.end))

    @property
    def stops(self) -> list[Finding]:
        """The findings that stop the window."""
        return [finding for finding in self.findings if finding.action == Action.STOPS]

    @property
    def passed(self) -> bool:
        """Whether the window may be learned from."""
        return not self.stops or self.forced is not None

    @property
    def verdict(self) -> Verdict:
        """The verdict by name."""
        return Verdict.PASSED if self.passed else Verdict.STOPPED

    def summary(self) -> dict[str, str | int]:
        """The report in a few words and figures, for a program to pass on."""
        return {
            "window": self.name,
            "verdict": self.verdict.value,
            "text": self.to_text(),
            "advice": "; ".join(finding.advice for finding in self.stops),
            "events": self.events,
            "kept": self.kept,
            "report": f"quality/{self.name}.md under FRESHET_HOME",
        }

    def to_text(self) -> str:
        """One line: the verdict, and what it rests on."""
        if not self.events:
            return "passed: no events"
        reasons = "; ".join(_sentence(finding) for finding in self.stops)
        if reasons and not self.passed:
            return f"stopped: {reasons}"
        counts = [
            f"{finding.rows:,} {finding.action.value} ({finding.rule})"
            for finding in self.findings
            if finding.action in (Action.REMOVED, Action.REPAIRED)
        ]
        counts += [
            f"warning: {_sentence(finding)}" for finding in self.findings if finding.action == Action.WARNING
        ]
        forced = [f"by force ({self.forced}), although {reasons}"] if reasons else []
        return f"passed: {'; '.join([*forced, f'{self.kept:,} of {self.events:,} events kept', *counts])}"

    def to_markdown(self) -> str:
        """A page with every figure of the report."""
        lines = [
            f"# The log of {self.name}",
            "",
            f"{self.to_text()}",
            "",
            f"From {iso(self.start)} to {iso(self.end)}: {self.events:,} events, {self.kept:,} of them kept.",
        ]
        if self.findings:
            lines += [
                "",
                "| rule | events | share | done | example | what to do |",
                "|---|---|---|---|---|---|",
            ]
        lines += [
            f"| {finding.rule} | {finding.rows:,} | {finding.share:.1%} | {finding.action.value} "
            f"| {_cell(finding.example)} | {finding.advice} |"
            for finding in self.findings
        ]
        if self.unchecked:
            lines += ["", "Not checked:", "", *(f"- {reason}" for reason in self.unchecked)]
        return "\n".join(lines) + "\n"

    def to_json(self) -> bytes:
        """Indented JSON with the fields of the report and of its summary."""
        return orjson.dumps(
            self.summary() | asdict(self), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
        )

    @classmethod
    def read(cls, path: Path) -> Self:
        """The report that ``write`` wrote. Raises InputError when it is none."""
        try:
            content: dict[str, Any] = orjson.loads(path.read_bytes())
            fields = {name: content[name] for name in cls.__dataclass_fields__}
            findings = tuple(
                Finding(**{**finding, "action": Action(finding["action"])}) for finding in fields["findings"]
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{path} is no report on the log ({error}): check that part of the log again"
            ) from error
        return cls(**fields | {"findings": findings, "unchecked": tuple(fields["unchecked"])})

    def without_examples_of(self, shopper_keys: Collection[str]) -> Self:
        """The report without the examples that name one of these shoppers."""
        findings = tuple(
            replace(finding, example=_ERASED)
            if any(f" by {key}, " in finding.example for key in shopper_keys)
            else finding
            for finding in self.findings
        )
        return replace(self, findings=findings)

    def write(self, folder: Path) -> None:
        """Write ``<name>.md`` and ``<name>.json`` into ``folder``, each whole or not at all."""
        replace_file(folder / f"{self.name}.md", self.to_markdown().encode())
        replace_file(folder / f"{self.name}.json", self.to_json())


def example_of(events: pa.Table) -> str:
    """The event with the smallest id in words; ``events`` has at least a row and what identifies an event."""
    place = pc.index(events[Event.ID], pc.min(events[Event.ID])).as_py()
    (event,) = events.slice(place, 1).to_pylist()
    user, visitor = event[Event.USER], event[Event.VISITOR]
    shopper = shopper_key(user, visitor) if user or visitor else "nobody"
    details = [
        f"{name} {event[name]:g}"
        for name in (Event.PRICE, Event.QUANTITY, Event.VALUE)
        if event[name] is not None
    ]
    time = iso(int(event[Event.TIMESTAMP].timestamp()) * SECOND)
    what = f"{event[Event.TYPE]} of {event[Event.ITEM] or 'no item'} by {shopper}, {time}"
    return ", ".join([f"{event[Event.ID]}: {what}", *details])


def iso(microseconds: int) -> str:
    """ISO text, to the second, of microseconds since 1970, UTC."""
    return _moment(microseconds).strftime("%Y-%m-%dT%H:%M:%SZ")


def _moment(microseconds: int) -> datetime:
    return datetime.fromtimestamp(microseconds // SECOND, UTC)


def _sentence(finding: Finding) -> str:
    if finding.action == Action.WARNING:
        return f"{finding.rule}: {finding.example}"
    return f"{finding.share:.0%} of {finding.rows / finding.share:,.0f} events: {finding.rule}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
