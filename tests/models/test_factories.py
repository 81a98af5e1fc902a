"""The user's own factories: found in the current folder, called with what they accept, refused in one sentence otherwise."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from torch import nn

from parsinet import models
from parsinet.errors import StructureError, UsageError

SOURCE = """
from torch import nn

from parsinet.errors import StructureError

number = 3
finished = nn.Linear(2, 2)

class Net(nn.Sequential):
    def __init__(self, input_shape, classes, hidden=5):
        super().__init__(nn.Linear(input_shape[0], hidden), nn.Linear(hidden, classes))

class Nest:
    net = Net

def everything(**given):
    assert given.pop("input_shape") == (4,) and given.pop("classes") == 3
    return nn.Linear(4, given.pop("outputs"))

def plain(outputs=7):
    return nn.Linear(4, outputs)

def classes_only(classes):
    return nn.Linear(4, classes)

def num_classes(input_shape, num_classes=7, **given):
    assert not given
    return nn.Linear(input_shape[0], num_classes)

def lazy():
    import helper_of_mine
    return helper_of_mine.make()

def needy(depth):
    return nn.Linear(4, depth)

def wrong():
    return "a model"

def failing():
    raise KeyError("depth")

def refusing():
    raise StructureError("mine: no.")
"""


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    package = tmp_path / "my_project"
    package.mkdir()
    (package / "nets.py").write_text(SOURCE)
    (package / "broken.py").write_text("import not_installed_anywhere\n")
    (package / "typo.py").write_text("x = = 1\n")
    (tmp_path / "helper_of_mine.py").write_text("from torch import nn\n\ndef make():\n    return nn.Linear(4, 11)\n")
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for name in [name for name in sys.modules if name.split(".")[0] in ("my_project", "helper_of_mine")]:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("factory", "options", "outputs"),
    [
        ("Net", {}, 3),
        ("Net", {"hidden": 9}, 3),
        ("Nest.net", {}, 3),
        ("everything", {"outputs": 8}, 8),
        ("plain", {}, 7),
        ("plain", {"outputs": 2}, 2),
        ("classes_only", {}, 3),
        ("num_classes", {}, 3),
        ("num_classes", {"num_classes": 5}, 5),
        ("lazy", {}, 11),
    ],
)
def test_built_from_the_current_folder(factory: str, options: dict[str, int], outputs: int) -> None:
    path = list(sys.path)
    model = models.build(f"my_project.nets:{factory}", (4,), 3, **options)
    last = list(model.modules())[-1]
    assert isinstance(last, nn.Linear)
    assert last.out_features == outputs
    assert sys.path == path


def test_a_library_factory() -> None:
    assert isinstance(models.build("torch.nn:Linear", (4,), 3, in_features=4, out_features=2), nn.Linear)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("my_project.nest:Net", {}, "no module 'my_project.nest' in .* installed packages"),
        ("your_project.nets:Net", {}, "no module 'your_project'"),
        ("my_project.broken:Net", {}, "importing 'my_project.broken' failed: ModuleNotFoundError.*not_installed_anywhere"),
        ("my_project.typo:Net", {}, "importing 'my_project.typo' failed: SyntaxError"),
        ("my_project.nets:Nett", {}, "has no 'Nett'. Did you mean 'Net'"),
        ("my_project.nets:", {}, "write package.module:factory"),
        (":Net", {}, "write package.module:factory"),
        ("my_project/nets.py:Net", {}, "write package.module:factory"),
        ("my_project.nets:number", {}, "'number' is a int and cannot be called"),
        ("my_project.nets:finished", {}, "'finished' is a finished module"),
        ("my_project.nets:wrong", {}, "must return a torch.nn.Module, it returned str"),
        ("my_project.nets:failing", {}, "the factory failed: KeyError: 'depth'"),
        ("my_project.nets:needy", {}, r"needs a value for 'depth'.*input_shape and classes \(or num_classes\).*--set model.depth="),
        ("my_project.nets:Net", {"hiden": 5}, "no option 'hiden'. Did you mean 'hidden'"),
    ],
)
def test_refusals(name: str, options: dict[str, int], words: str) -> None:
    path = list(sys.path)
    with pytest.raises(UsageError, match=words):
        models.build(name, (4,), 3, **options)
    assert sys.path == path


def test_our_own_errors_pass() -> None:
    with pytest.raises(StructureError, match=r"mine: no\."):
        models.build("my_project.nets:refusing", (4,), 3)
