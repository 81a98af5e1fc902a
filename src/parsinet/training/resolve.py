"""From YAML, dotted settings and plain mappings to a recipe, with one sentence for whatever is wrong."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from parsinet import files
from parsinet.errors import StorageError, UsageError, suggest
from parsinet.methods import METHODS
from parsinet.training.recipe import (
    Adam,
    AdamW,
    AugmentationPart,
    Constant,
    Cosine,
    DataPart,
    LpSgd,
    Recipe,
    Sgd,
    Steps,
)
from parsinet.training.recipe_checkpoint import CheckpointPart, EveryPart
from parsinet.training.recipe_lifts import AveragePart, DistillPart

_SECTIONS: dict[tuple[str, ...], type[BaseModel]] = {
    (): Recipe,
    ("data",): DataPart,
    ("data", "augmentation"): AugmentationPart,
    ("distill",): DistillPart,
    ("average",): AveragePart,
    ("checkpoint",): CheckpointPart,
    ("checkpoint", "every"): EveryPart,
    ("optimizer", "sgd"): Sgd,
    ("optimizer", "adam"): Adam,
    ("optimizer", "adamw"): AdamW,
    ("optimizer", "lpsgd"): LpSgd,
    ("schedule", "constant"): Constant,
    ("schedule", "steps"): Steps,
    ("schedule", "cosine"): Cosine,
}
_KINDS = {section: [path[1] for path in _SECTIONS if path[:1] == (section,) and len(path) == 2] for section in ("optimizer", "schedule")}


class _Loader(yaml.SafeLoader):
    """YAML 1.1 with three changes: `3e-4` is a number, `010` and `1:30` are none, and a key given twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise UsageError(f"the key {key!r} is given twice (line {node.start_mark.line + 1} on). Keep one.")
        return super().construct_mapping(node, deep)


INT = "tag:yaml.org,2002:int"
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in known if tag != INT] for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(INT, re.compile(r"^[-+]?(0|[1-9][0-9_]*)$"), list("-+0123456789"))
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789"))


def recipe_from(values: Mapping[str, Any], *, source: str = "Recipe") -> Recipe:
    """Check `values` and fill in what is missing.

    Errors: UsageError with one sentence that begins with `source` and names the key.
    """
    prepared = dict(values)
    optimizer = prepared.get("optimizer", {})
    if isinstance(optimizer, Mapping) and "name" not in optimizer:
        prepared["optimizer"] = {"name": _usual_optimizer(prepared.get("method")), **optimizer}
    try:
        return Recipe.model_validate(prepared)
    except ValidationError as error:
        raise UsageError(_sentence(error, source)) from None


def _usual_optimizer(method: Any) -> str:
    """The optimizer a method asks for, else Adam."""
    name = method.get("name") if isinstance(method, Mapping) else None
    return getattr(METHODS.get(str(name)), "usual_optimizer", "adam")


def load_recipe(path: str | Path) -> Recipe:
    """Read a YAML recipe."""
    return recipe_from(read_values(Path(path)), source=f"Recipe {path}")


def save_recipe(recipe: Recipe, path: Path) -> None:
    """Write every setting as YAML, atomically."""
    files.write_text(path, yaml.safe_dump(recipe.plain(), sort_keys=False, allow_unicode=True))


def read_values(path: Path, kind: str = "Recipe") -> dict[str, Any]:
    """The mapping in a YAML file, not yet checked as what it is, which `kind` says."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise StorageError(f"Cannot read the {kind.lower()} {path}: {error.strerror}. Check the path.") from None
    except UnicodeDecodeError:
        raise UsageError(f"{kind} {path} is not UTF-8 text.") from None
    values = _parse(text, f"{kind} {path}")
    if values is None:
        return {}
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise UsageError(f"{kind} {path} must hold keys and values, such as `epochs: 20`.")
    return values


def with_values(values: Mapping[str, Any], dotted: Mapping[str, Any]) -> dict[str, Any]:
    """`values` with others laid over them, named by dotted paths: `{"optimizer.lr": 3e-4}`. `values` stay as they are."""
    result = dict(values)
    for path, value in dotted.items():
        section = result
        *parents, last = path.split(".")
        for key in parents:
            inner = section.get(key)
            if inner is not None and not isinstance(inner, Mapping):
                raise UsageError(f"{path} cannot be set: {key} is no section, it holds {inner!r}.")
            section[key] = dict(inner or {})
            section = section[key]
        section[last] = value
    return result


def with_settings(values: Mapping[str, Any], settings: Iterable[str]) -> dict[str, Any]:
    """`values` with settings laid over them: `"optimizer.lr=3e-4"`; the right side is read as YAML."""
    dotted = {}
    for setting in settings:
        path, equals, text = setting.partition("=")
        path = path.strip()
        if not equals or not all(path.split(".")):
            raise UsageError(f"--set needs key.path=value, got {setting!r}. Example: --set optimizer.lr=3e-4")
        dotted[path] = _parse(text, f"--set {path}")
    return with_values(values, dotted)


def _parse(text: str, source: str) -> Any:
    try:
        return yaml.load(text, Loader=_Loader)
    except UsageError as error:
        raise UsageError(f"{source}: {error}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f" in line {mark.line + 1}" if mark else ""
        raise UsageError(f"{source} is not valid YAML{place}: {getattr(error, 'problem', None) or 'cannot be read'}.") from None
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
        raise UsageError(f"{source} holds a value that YAML cannot read ({type(error).__name__}).") from None


def _sentence(error: ValidationError, source: str) -> str:
    """The first finding of pydantic in the caller's words; unknown keys come first, they explain the others."""
    finding = min(error.errors(include_url=False), key=lambda item: item["type"] != "extra_forbidden")
    location, kind, given, context = finding["loc"], finding["type"], finding["input"], finding.get("ctx", {})
    keys = _keys(location)
    path = ".".join(keys)
    match kind:
        case "extra_forbidden":
            section = tuple(str(part) for part in location[:-1])
            return f"{source}: unknown key {path!r}.{suggest(keys[-1], _SECTIONS[section].model_fields)}"
        case "missing":
            return f"{source}: {path} is missing."
        case "union_tag_not_found":
            return f"{source}: {path}.kind is missing. Known: {', '.join(_KINDS[path])}."
        case "union_tag_invalid":
            return f"{source}: unknown {path} {context['tag']!r}.{suggest(str(context['tag']), _KINDS[path])}"
        case "literal_error":
            return f"{source}: {path} must be {context['expected']}, got {given!r}."
        case "value_error":
            return f"{source}: {f'{path}: ' if path else ''}{context['error']}."
        case "model_type" | "model_attributes_type" | "dict_type":
            return f"{source}: {path} must be a section with keys of its own, got {given!r}."
        case "tuple_type":
            return f"{source}: {path} must be a list, got {given!r}."
        case _:
            return f"{source}: {path} {_requirement(finding['msg'])}, got {given!r}."


def _requirement(message: str) -> str:
    changed = message[:1].lower() + message[1:]
    for old, new in (
        ("input should be greater than or equal to ", "must be ≥ "),
        ("input should be less than or equal to ", "must be ≤ "),
        ("input should be greater than ", "must be > "),
        ("input should be less than ", "must be < "),
        ("input should ", "must "),
        ("tuple should ", "must "),
        ("string should ", "must "),
    ):
        if changed.startswith(old):
            return (new + changed[len(old) :]).replace(" after validation", "")
    return f"is not valid ({changed})"


def _keys(location: tuple[int | str, ...]) -> list[str]:
    """The path as the user writes it: without the tag that pydantic puts behind a section of several kinds."""
    parts = [str(part) for part in location]
    if len(parts) > 1 and parts[1] in _KINDS.get(parts[0], ()):
        del parts[1]
    return parts
