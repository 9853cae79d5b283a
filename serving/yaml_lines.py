"""Where things stand in a YAML file, so that a message can name the line that is wrong."""

from pathlib import Path
from typing import NamedTuple

import yaml

from feature_repo.errors import InputError


class Child(NamedTuple):
    """What stands in a mapping or a sequence: by which step, a key or a number from 0, at which line from 0."""

    step: str | int
    line: int
    node: yaml.Node


def children(node: yaml.Node | None) -> list[Child]:
    """What stands directly in a node."""
    if isinstance(node, yaml.MappingNode):
        return [Child(key.value, key.start_mark.line, value) for key, value in node.value]
    if isinstance(node, yaml.SequenceNode):
        return [Child(number, value.start_mark.line, value) for number, value in enumerate(node.value)]
    return []


def require_distinct(node: yaml.Node | None, path: Path) -> None:
    """Raise InputError where a key stands twice: YAML would silently take the last."""
    seen = set()
    for step, line, child in children(node):
        if step in seen:
            raise InputError(f"{path}, line {line + 1}: {step} stands twice")
        seen.add(step)
        require_distinct(child, path)


def find(node: yaml.Node | None, location: tuple[int | str, ...]) -> tuple[int, list[str]]:
    """Line of the innermost step of a location that the file has, from 1, and the steps on the way to it."""
    line = node.start_mark.line if node else 0
    found = []
    for step in location:
        for child in children(node):
            if child.step == step:
                line, node = child.line, child.node
                found.append(str(step))
                break
    return line + 1, found
