"""YAML text into plain values, with the line of every value and every fault of the text, not only the first.

Safe by construction: only plain types, duplicate keys are faults, nesting and aliases are bounded.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import cast

import yaml

Path = tuple[str | int, ...]
_MOST_NODES = 100_000  # also what aliases may unfold to
_MOST_DEPTH = 50
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_VARIABLE = re.compile(r"\$\{([^}]*)\}")
_NAME = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?", re.DOTALL)
_SHORTEST_HIDDEN = 4  # in less there is no secret, and it stands in every other word
_STRING = "tag:yaml.org,2002:str"
_MERGE = "tag:yaml.org,2002:merge"
_PLAIN = {f"tag:yaml.org,2002:{kind}" for kind in ("null", "bool", "int", "float")}


@dataclass
class Text:
    """What was read.

    Args:
        value: Mappings, lists and scalars.
        lines: The line, from 1, on which the value at each path begins.
        expanded: Paths of scalars that a variable of the environment went into.
        faults: What is wrong, as (line, path, message).
    """

    value: object = None
    lines: dict[Path, int] = field(default_factory=dict)
    expanded: set[Path] = field(default_factory=set)
    faults: list[tuple[int, Path, str]] = field(default_factory=list)

    def add(self, path: Path, message: str) -> None:
        """Note a fault at the line of a path."""
        self.faults.append((self.line_of(path), path, message))

    def line_of(self, path: Path) -> int:
        """Give the line of a path, or of the nearest thing around it."""
        return next((self.lines[path[:n]] for n in range(len(path), -1, -1) if path[:n] in self.lines), 1)


def read(text: str, environ: Mapping[str, str]) -> Text:
    """Read YAML; `${NAME}` and `${NAME:-default}` in scalars become the environment's values.

    Nothing is raised for the text: what is wrong stands in `faults`.
    """
    reading = Text()
    try:
        _refuse_depth(text)
        node = yaml.compose(text, Loader=_LOADER)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        reading.faults.append((mark.line + 1 if mark else 1, (), f"not YAML: {error.problem}; check indent and quotes"))
    except yaml.YAMLError as error:
        reading.faults.append((1, (), f"not YAML: {type(error).__name__}; write the file as plain UTF-8 text"))
    else:
        reading.value = _Reader(reading, environ).value_of(node, ()) if node is not None else None
    return reading


def variables_in(text: str, environ: Mapping[str, str]) -> Mapping[str, str]:
    """Give the environment's values that a text asks for, each with the `${NAME}` that stands for it."""
    names = (match.partition(":-")[0] for match in _VARIABLE.findall(text))
    return {environ[name]: f"${{{name}}}" for name in names if len(environ.get(name, "")) >= _SHORTEST_HIDDEN}


def hide_variables(variables: Mapping[str, str], told: str) -> str:
    """Take values of the environment out of what is told, the longest first."""
    for value in sorted(variables, key=len, reverse=True):
        told = told.replace(value, variables[value])
    return told


def _refuse_depth(text: str) -> None:
    depth = 0
    for event in yaml.parse(text, Loader=_LOADER):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > _MOST_DEPTH:
            problem = f"nested deeper than {_MOST_DEPTH}"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=cast("yaml.Mark", event.start_mark))


class _Reader:
    def __init__(self, reading: Text, environ: Mapping[str, str]) -> None:
        self._reading = reading
        self._environ = environ
        self._scalars = yaml.constructor.SafeConstructor()
        self._nodes_left = _MOST_NODES

    def value_of(self, node: yaml.Node, path: Path) -> object:
        """Turn a node into its value; faults are noted and the value is then `None`."""
        self._nodes_left -= 1
        if self._nodes_left == 0 or len(path) > _MOST_DEPTH:
            self._fault(
                node, (), f"more than {_MOST_NODES} values, or aliases that contain themselves; write it out flat"
            )
        if self._nodes_left <= 0 or len(path) > _MOST_DEPTH:
            self._nodes_left = 0
            return None
        self._reading.lines.setdefault(path, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.value_of(item, (*path, index)) for index, item in enumerate(node.value)]
        return self._scalar(cast("yaml.ScalarNode", node), path)

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, object]:
        own: dict[str, object] = {}
        merged: dict[str, object] = {}
        for key_node, value_node in node.value:
            if key_node.tag == _MERGE:
                for item in self._merged(value_node, path):
                    merged = {**item, **merged}
                continue
            key = str(key_node.value)
            self._reading.lines[(*path, key)] = key_node.start_mark.line + 1
            if key in own:
                self._fault(key_node, (*path, key), "this key stands here twice; keep one")
            own[key] = self.value_of(value_node, (*path, key))
        return {**merged, **own}

    def _merged(self, node: yaml.Node, path: Path) -> Iterator[dict[str, object]]:
        for item in node.value if isinstance(node, yaml.SequenceNode) else [node]:
            if isinstance(item, yaml.MappingNode):
                yield self._mapping(item, path)
            else:
                self._fault(item, path, "`<<` takes a mapping, or a list of mappings")

    def _scalar(self, node: yaml.ScalarNode, path: Path) -> object:
        if "${" in node.value:
            return self._expanded(node, path)
        if node.tag not in _PLAIN:
            return node.value
        try:
            return self._scalars.construct_object(node)
        except ValueError:
            self._fault(node, path, "not a value of the type it looks like; put it in quotes")
            return None

    def _expanded(self, node: yaml.ScalarNode, path: Path) -> str | None:
        self._reading.expanded.add(path)
        return _VARIABLE.sub(lambda found: self._variable(found[1], node, path), node.value) or None

    def _variable(self, inside: str, node: yaml.ScalarNode, path: Path) -> str:
        match = _NAME.fullmatch(inside)
        if match is None:
            self._fault(node, path, f"${{{inside}}} is not a variable; write ${{NAME}} or ${{NAME:-default}}")
            return ""
        name, default = match.groups()
        value = self._environ.get(name) or default
        if value is None:
            self._fault(
                node, path, f"the environment variable {name} is not set; set it, or write ${{{name}:-default}}"
            )
        return value or ""

    def _fault(self, node: yaml.Node, path: Path, message: str) -> None:
        self._reading.faults.append((node.start_mark.line + 1, path, message))
