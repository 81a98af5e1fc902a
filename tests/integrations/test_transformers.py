"""transformers' Trainer trains as a loop of one's own does, goes on across removals, and folders hold what it leaves."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

transformers = pytest.importorskip("transformers", reason="transformers is not installed (pip install 'parsinet[transformers]')")
pytest.importorskip("accelerate", reason="accelerate is not installed (pip install 'parsinet[transformers]')")

import parsinet as pn  # noqa: E402
from architectures.huggingface import FAMILIES, build, example  # noqa: E402
from parsinet.baselines import MagnitudeUnits  # noqa: E402
from parsinet.errors import ParsinetError, RunError, StorageError, UsageError  # noqa: E402
from parsinet.integrations.transformers import Prune, from_pretrained, save_pretrained  # noqa: E402
from parsinet.integrations.transformers_replicas import Wrapping  # noqa: E402
from parsinet.methods import Gates, Method, Pruner  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore:.*pin_memory.*")
EPOCHS, EXAMPLES, SIZE = 3, 64, 8
SAVED = 12
"""The step of the checkpoint training goes on from."""


def method() -> Method:
    return Gates(price=6e-4, gated=0.9, fall_steps=8, interval=2, theta=0.8)


def gradual() -> Method:
    """Lets units go before the checkpoint and after it."""
    return MagnitudeUnits(share=0.6, begin=0.2, end=0.9, interval=3)


def model(dropout: float = 0.0) -> nn.Module:
    rates = {"resid_pdrop": dropout, "embd_pdrop": dropout, "attn_pdrop": dropout}
    sizes = {
        "vocab_size": 16,
        "n_embd": 8,
        "n_layer": 1,
        "n_head": 2,
        "n_positions": 8,
        "n_inner": 24,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    torch.manual_seed(0)
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes, **rates, use_cache=False, loss_type="ForCausalLM"))


def sequences() -> list[dict[str, Tensor]]:
    """Steps of constant width around a circle of 16."""
    generator = torch.Generator().manual_seed(0)
    rows = [(torch.arange(8) * int(a) + int(b)) % 16 for a, b in torch.randint(1, 15, (EXAMPLES, 2), generator=generator)]
    return [{"input_ids": row, "labels": row} for row in rows]


INPUTS = {"input_ids": torch.zeros(2, 8, dtype=torch.long)}


class Stop(transformers.TrainerCallback):
    """Notes the widths; ends training right after a checkpoint was saved."""

    def __init__(self, prune: Prune, step: int | None) -> None:
        self.prune, self.step = prune, step
        self.widths: list[list[int]] = []

    def on_step_end(self, args: Any, state: Any, control: Any, **told: Any) -> None:
        self.widths.append(list(self.prune.pruner.widths().values()))

    def on_save(self, args: Any, state: Any, control: Any, **told: Any) -> None:
        if state.global_step == self.step:
            raise KeyboardInterrupt


def arguments(out: Path, **options: Any) -> Any:
    usual = {
        "num_train_epochs": EPOCHS,
        "per_device_train_batch_size": SIZE,
        "save_steps": SAVED,
        "learning_rate": 1e-2,
        "use_cpu": True,
        "optim": "adamw_torch",
    }
    quiet = {"report_to": [], "disable_tqdm": True, "logging_strategy": "no", "dataloader_pin_memory": False}
    return transformers.TrainingArguments(str(out), **{**usual, **quiet, **options})


def train(
    out: Path,
    *,
    dropout: float = 0.0,
    net: nn.Module | None = None,
    stop: int | None = None,
    resume: Any = None,
    prune: Prune | None = None,
    **options: Any,
) -> Any:
    """The model, its pruner's callback and the widths after every step."""
    net, prune = net or model(dropout), prune or Prune(method(), INPUTS)
    watch = Stop(prune, stop)
    trainer = transformers.Trainer(net, arguments(out, **options), train_dataset=sequences(), callbacks=[prune, watch])
    try:
        trainer.train(resume_from_checkpoint=resume)
    except KeyboardInterrupt:
        assert stop is not None
    return net, prune, watch.widths


def same(a: nn.Module, b: nn.Module) -> bool:
    one, other = a.state_dict(), b.state_dict()
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.slow
def test_a_training_resumes_bitwise_across_removals(tmp_path: Path) -> None:
    """Dropout and shuffled batches included; the first part's units have left when the second begins."""
    whole, prune, widths = train(tmp_path / "whole", dropout=0.1, prune=Prune(gradual(), INPUTS))
    _, _, part = train(tmp_path / "part", dropout=0.1, stop=SAVED, prune=Prune(gradual(), INPUTS))
    resumed, again, _ = train(tmp_path / "part", dropout=0.1, resume=True, prune=Prune(gradual(), INPUTS))
    assert same(whole, resumed)
    assert prune.pruner.widths() == again.pruner.widths()
    assert widths[0] != part[-1] != widths[-1], "units must leave before and after the checkpoint"
    save_pretrained(resumed, tmp_path / "lean")
    loaded = from_pretrained(tmp_path / "lean")
    assert same(loaded, resumed)
    with torch.no_grad():
        assert torch.equal(loaded(**INPUTS).logits, resumed.eval()(**INPUTS).logits)
    assert not any(path.suffix in (".bin", ".pt", ".pth", ".pkl") for path in (tmp_path / "lean").iterdir())
    assert loaded.generate(torch.tensor([[3, 4]]), max_new_tokens=2).shape == (1, 4)


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"bf16": True}, {"gradient_accumulation_steps": 2}], ids=["plain", "bf16", "accumulated"])
def test_the_lean_model_is_that_of_a_loop_of_ones_own(options: dict[str, Any], tmp_path: Path) -> None:
    net, prune, _ = train(tmp_path, train_sampling_strategy="sequential", **options)
    assert prune.finish() is net
    assert "forward" not in net.__dict__
    assert same(net, own_loop(options.get("gradient_accumulation_steps", 1), bf16="bf16" in options))


def own_loop(accumulate: int, *, bf16: bool) -> nn.Module:
    """What the Trainer does, by hand: AdamW, a rate that falls linearly, gradients clipped at 1."""
    net = model().train()
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2, weight_decay=0.0)
    rows = sequences()
    steps = EPOCHS * EXAMPLES // SIZE // accumulate
    pruner = Pruner(net, optimizer, method(), INPUTS, steps=steps, examples=EXAMPLES)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 1e-2 * (steps - step) / steps
        first = step * SIZE * accumulate % EXAMPLES
        for start in range(first, first + SIZE * accumulate, SIZE):
            batch = torch.stack([row["input_ids"] for row in rows[start : start + SIZE]])
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                loss = net(input_ids=batch, labels=batch, num_items_in_batch=torch.tensor(SIZE * 8 * accumulate)).loss
            loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        pruner.step()
    return pruner.finish()


@pytest.mark.slow
def test_a_checkpoint_must_be_the_one_of_the_weights(tmp_path: Path) -> None:
    train(tmp_path / "one", stop=SAVED)
    folder = tmp_path / "one" / f"checkpoint-{SAVED}"
    moved = tmp_path / "moved"
    shutil.copytree(folder, moved)
    with pytest.raises(RunError, match="does not exist"):
        train(tmp_path / "other", resume=str(moved))
    train(tmp_path / "other", resume=str(moved), prune=Prune(method(), INPUTS, checkpoint=moved))
    shutil.rmtree(moved / "parsinet")
    shutil.copytree(tmp_path / "other" / "checkpoint-24" / "parsinet", moved / "parsinet")
    with pytest.raises(RunError, match="other weights"):
        train(tmp_path / "third", resume=str(moved), prune=Prune(method(), INPUTS, checkpoint=moved))


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "best model": ({"load_best_model_at_end": True, "eval_strategy": "no", "save_strategy": "no"}, "load_best_model_at_end"),
    "batch size": ({"auto_find_batch_size": True}, "auto_find_batch_size"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_trainings_that_cannot_be_pruned_in_are_refused(name: str, tmp_path: Path) -> None:
    options, words = REFUSED[name]
    with pytest.raises(UsageError, match=words):
        train(tmp_path, **options)


BAD: dict[str, tuple[Callable[[Path], Any], str]] = {
    "option": (lambda _: Prune(method(), INPUTS, keep=3), "takes no 'keep'"),  # type: ignore[call-arg]
    "a class": (lambda _: Prune(Gates, INPUTS), "got the class Gates"),  # type: ignore[arg-type]
    "no method": (lambda _: Prune(None, INPUTS), "got a NoneType"),  # type: ignore[arg-type]
    "model_init": (lambda path: initialised(path), "model_init builds another model"),
    "no wrapper": (lambda path: Wrapping(model()).replicas(arguments(path)), "has not wrapped it"),
    "finish": (lambda _: Prune(method(), INPUTS).finish(), "nothing has been trained"),
    "no folder": (lambda path: from_pretrained(path), "save_pretrained has written"),
    "no Hugging Face model": (lambda path: save_pretrained(nn.Linear(2, 2), path), "parsinet.save"),
    "spectral layers": (lambda path: save_pretrained(spectral_bert(), path), "pooler.dense is a spectral layer"),
    "gates at work": (lambda path: save_pretrained(at_work(Gates(price=1e-3)), path), "still at work"),
    "factors at work": (lambda path: save_pretrained(at_work(pn.baselines.VIB()), path), "still at work"),
}


def initialised(path: Path) -> None:
    trainer = transformers.Trainer(
        None, arguments(path), train_dataset=sequences(), model_init=lambda: model(), callbacks=[Prune(method(), INPUTS)]
    )
    trainer.train()


def at_work(given: Method) -> nn.Module:
    """A model some method has met, and not left."""
    net = model()
    given.prepare(net)
    pn.Pruner(net, torch.optim.Adam(net.parameters()), given, INPUTS, steps=9)
    return net


def spectral_bert() -> nn.Module:
    net = transformers.BertModel(transformers.BertConfig(vocab_size=16, hidden_size=8, num_hidden_layers=0, num_attention_heads=2))
    pn.spectral.spectralize(net, "two-set", layers=["pooler.dense"])
    return net


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name: str, tmp_path: Path) -> None:
    act, words = BAD[name]
    with pytest.raises(ParsinetError, match=words):
        act(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["llama", "gpt2", "bert-classifier"])
def test_folders_hold_models_of_uneven_widths(name: str, tmp_path: Path) -> None:
    """Once shrunk alike, so that the configuration follows, then unevenly; saved, loaded and saved again."""
    net, inputs = build(FAMILIES[name]), example(FAMILIES[name])
    structure = pn.trace(net, inputs)
    pn.shrink(net, structure.plan({group.name: torch.arange(group.size) % 3 != 1 for group in structure.removable()}))
    structure = pn.trace(net, inputs)
    last = structure.removable()[-1]
    pn.shrink(net, structure.plan({last.name: torch.arange(last.size) > 0}))
    save_pretrained(net, tmp_path / "one")
    loaded = from_pretrained(tmp_path / "one", type(net))
    save_pretrained(loaded, tmp_path / "two")
    again = from_pretrained(tmp_path / "two", type(net))
    assert same(net, loaded)
    assert same(net, again)
    assert again.config.to_dict()["vocab_size"] == net.config.to_dict()["vocab_size"]
    for file in ("config.json", "structure.json"):
        assert json.loads((tmp_path / "one" / file).read_text()) == json.loads((tmp_path / "two" / file).read_text())


def test_a_class_nobody_knows_is_asked_for(tmp_path: Path) -> None:
    save_pretrained(model(), tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "architectures": ["MyModel"]}))
    with pytest.raises(UsageError, match="MyModel is no class of transformers"):
        from_pretrained(tmp_path)
    assert same(from_pretrained(tmp_path, transformers.GPT2LMHeadModel), model())
    (tmp_path / "config.json").unlink()
    with pytest.raises(StorageError):
        from_pretrained(tmp_path)


CONFIG = "config.json"
DAMAGED: dict[str, tuple[str, Callable[[str], str | None], str]] = {
    "no structure": ("structure.json", lambda _: None, "parsinet has not written it"),
    "half a file": (CONFIG, lambda text: text[:20], "cannot be read"),
    "a list": (CONFIG, lambda _: "[]", "holds a list"),
    "dtype": (CONFIG, lambda text: text.replace("float32", "float99"), "no configuration of GPT2LMHeadModel"),
    "generation": ("generation_config.json", lambda _: "{", "generation_config.json cannot be read"),
    "width": (CONFIG, lambda text: text.replace('"n_embd": 8', '"n_embd": 12'), "do not fit"),
    "a function": (CONFIG, lambda text: text.replace("GPT2LMHeadModel", "pipeline"), "pipeline is no class"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_folders_are_refused(name: str, tmp_path: Path) -> None:
    file, damage, words = DAMAGED[name]
    save_pretrained(model(), tmp_path)
    text = damage((tmp_path / file).read_text())
    (tmp_path / file).unlink() if text is None else (tmp_path / file).write_text(text)
    with pytest.raises(ParsinetError, match=words):
        from_pretrained(tmp_path)


def test_the_class_given_must_be_one_of_models(tmp_path: Path) -> None:
    save_pretrained(model(), tmp_path)
    with pytest.raises(UsageError, match="kind must be a class of models"):
        from_pretrained(tmp_path, nn.Linear)


def test_a_vocabulary_that_grows_after_a_cut_comes_back(tmp_path: Path) -> None:
    net = model().eval()
    structure = pn.trace(net, INPUTS)
    stream = max((group for group in structure.removable() if group.size == 8), key=lambda group: len(group.parameters))
    pn.shrink(net, structure.plan({stream.name: torch.arange(8) < 6}))
    net.resize_token_embeddings(19)
    save_pretrained(net, tmp_path)
    loaded = from_pretrained(tmp_path)
    assert same(loaded, net)
    assert loaded.config.vocab_size == 19
    with torch.no_grad():
        assert torch.equal(loaded(**INPUTS).logits, net(**INPUTS).logits)
