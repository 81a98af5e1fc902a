"""The user's own models: import `package.module:factory` and call it."""

import contextlib
import importlib
import inspect
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from operator import attrgetter
from types import ModuleType
from typing import Any

from torch import nn

from parsinet.errors import ParsinetError, UsageError, suggest

ALIAS = "num_classes"
"""What many factories call `classes`."""


def build_from_factory(name: str, input_shape: Sequence[int], classes: int, options: Mapping[str, Any]) -> nn.Module:
    """Call the factory that `name` = `package.module:factory` stands for; see `models.build`.

    Of `input_shape` and `classes` it is given those that it accepts by name, `classes` as `num_classes` if that is how it calls them.
    The current folder is on `sys.path` meanwhile, and only meanwhile. Raises UsageError if the module or the attribute is missing, the
    attribute is not callable, an option is not accepted, the factory fails, or its result is not a torch.nn.Module.
    """
    with _current_folder_importable():
        factory = _find(name)
        arguments = _arguments(name, factory, {"input_shape": tuple(input_shape), "classes": classes}, options)
        try:
            model = factory(**arguments)
        except ParsinetError:
            raise
        except Exception as error:
            raise UsageError(f"model {name!r}: the factory failed: {type(error).__name__}: {error}") from error
    if not isinstance(model, nn.Module):
        raise UsageError(f"model {name!r}: the factory must return a torch.nn.Module, it returned {type(model).__name__}.")
    return model


def _find(name: str) -> Callable[..., Any]:
    module_name, _, attribute = name.partition(":")
    if not all(part.isidentifier() for part in f"{module_name}.{attribute}".split(".")):
        raise UsageError(f"model {name!r}: write package.module:factory, e.g. project.nets:small.")
    module = _import(name, module_name)
    try:
        factory = attrgetter(attribute)(module)
    except AttributeError as error:
        known = [word for word in vars(module) if not word.startswith("_")]
        raise UsageError(f"model {name!r}: module {module_name!r} has no {attribute!r}.{suggest(attribute, known)}") from error
    if isinstance(factory, nn.Module):
        raise UsageError(f"model {name!r}: {attribute!r} is a finished module; name a function or class that makes a new one.")
    if not callable(factory):
        raise UsageError(f"model {name!r}: {attribute!r} is a {type(factory).__name__} and cannot be called; name a function or class.")
    return factory  # type: ignore[no-any-return]


def _import(name: str, module_name: str) -> ModuleType:
    importlib.invalidate_caches()
    try:
        return importlib.import_module(module_name)
    except Exception as error:
        missing = getattr(error, "name", None) if isinstance(error, ModuleNotFoundError) else None
        if missing and f"{module_name}.".startswith(f"{missing}."):
            place = os.getcwd()
            raise UsageError(f"model {name!r}: no module {missing!r} in {place} or among the installed packages.") from error
        raise UsageError(f"model {name!r}: importing {module_name!r} failed: {type(error).__name__}: {error}") from error


def _arguments(name: str, factory: Callable[..., Any], offered: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    try:
        parameters = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError):
        return dict(options)
    accepted = [each.name for each in parameters if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)]
    takes_all = any(each.kind is each.VAR_KEYWORD for each in parameters)
    if ALIAS in accepted and "classes" not in accepted:
        offered = {ALIAS if key == "classes" else key: value for key, value in offered.items()}
    arguments = {key: value for key, value in offered.items() if takes_all or key in accepted} | dict(options)
    for option in options:
        if not takes_all and option not in accepted:
            raise UsageError(f"model {name!r}: the factory has no option {option!r}.{suggest(option, accepted)}")
    for each in parameters:
        if each.name in accepted and each.default is each.empty and each.name not in arguments:
            raise UsageError(
                f"model {name!r}: the factory needs a value for {each.name!r}. parsinet gives it input_shape and classes (or {ALIAS}); "
                f"give all else as an option, on the command line --set model.{each.name}=…"
            )
    return arguments


@contextlib.contextmanager
def _current_folder_importable() -> Iterator[None]:
    folder = os.getcwd()
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(folder)
