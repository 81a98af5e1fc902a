"""A claims file, read with the files of sentences that it names."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from parsinet.bench.claims import Claim, File
from parsinet.bench.quantities import matching
from parsinet.bench.sentences import Page
from parsinet.errors import StorageError, UsageError
from parsinet.training.recipe_parts import Part

Kind = TypeVar("Kind", bound=Part)


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """A key that stands twice in a mapping is refused; YAML would take the last one without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = [key.value for key, _ in node.value]
        for place, (key, _) in enumerate(node.value):
            if key.value in names[:place]:
                raise yaml.constructor.ConstructorError(problem=f"{key.value!r} stands twice", problem_mark=key.start_mark)
        return super().construct_mapping(node, deep)  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Stored:
    """A claims file. pages: the sentences with numbers, by the file they stand in. prose: documents of which every number of running text
    that looks measured has to stand in a sentence. reports: suite → folder with its records and the page that is made of them."""

    claims: list[Claim]
    pages: dict[Path, Page]
    prose: list[Path]
    reports: dict[str, Path]


def load_claims(path: Path) -> Stored:
    """The claims of a YAML file, with the sentences of the files that it names.

    Errors: UsageError for what cannot be used, StorageError for a file that cannot be read.
    """
    values = _loaded(path)
    if not isinstance(values, dict) or not isinstance(values.get("claims"), list):
        raise UsageError(f"{path} is no file of claims: it must be YAML with a list under `claims`.")
    told = _valid(File, values, path)
    reports = {suite: path.parent / folder for suite, folder in told.reports.items()}
    pages = {file: _valid(Page, _loaded(file), file) for file in _named(path.parent, told.sentences)}
    return Stored(list(told.claims), pages, _named(path.parent, told.prose), reports)


def _named(folder: Path, patterns: Sequence[str]) -> list[Path]:
    """The files that patterns name. Errors: UsageError for a pattern that names none."""
    found = {pattern: matching(folder, pattern) for pattern in patterns}
    for pattern, paths in found.items():
        if not paths:
            raise UsageError(f"No file fits {pattern}, which the claims file names.")
    return [path for paths in found.values() for path in paths]


def _loaded(path: Path) -> Any:
    try:
        return yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except OSError as error:
        raise StorageError(f"Cannot read the claims {path}: {error.strerror}. Name the file with --claims.") from None
    except yaml.MarkedYAMLError as error:
        place = "" if error.problem_mark is None else f" in line {error.problem_mark.line + 1}"
        raise UsageError(f"{path} is no file of claims: {error.problem}{place}; it must be YAML.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is no file of claims ({type(error).__name__}): it must be YAML.") from None


def _valid(kind: type[Kind], values: Any, path: Path) -> Kind:
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        finding = error.errors(include_url=False)[0]
        told = [path.name, ".".join(_leading(values, finding["loc"], finding["type"])), finding["msg"].removeprefix("Value error, ")]
        got = "" if finding["type"] == "value_error" else f", got {finding['input']!r}"
        raise UsageError(f"{': '.join(filter(None, told))}{got}.") from None


def _leading(values: Any, keys: Sequence[str | int], fault: str) -> Iterator[str]:
    """The keys that lead to a fault in a file, without names of kinds that pydantic puts between them."""
    for number, key in enumerate(keys, start=1):
        if _leads(values, key):
            values = values[key]
            yield str(key)
        elif number == len(keys) and fault == "missing":
            yield str(key)


def _leads(values: Any, key: str | int) -> bool:
    return key in values if isinstance(values, Mapping) else isinstance(values, list) and isinstance(key, int) and key < len(values)
