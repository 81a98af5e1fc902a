"""What a sweep leaves: study.json with everything that is known of it, and recipes of the trials worth training again."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
import yaml
from optuna.trial import FrozenTrial, TrialState

from parsinet import files
from parsinet.report import STUDY, STUDY_FORMAT, chosen
from parsinet.training.environment import versions
from parsinet.tuning import workers
from parsinet.tuning.ledger import Ledger

STATES = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "waiting",
}


def write_study(ledger: Ledger, folder: Path, reference: Mapping[str, Any] | None) -> None:
    """Write study.json, best.yaml and, of two objectives, knee.yaml, as the study stands; one worker at a time, so that none writes older
    news over newer ones."""
    with workers.alone(folder):
        trials = [_plain(ledger, trial) for trial in ledger.trials()]
        objectives = ledger.definition.objectives
        complete = {trial["number"]: trial["values"] for trial in trials if trial["state"] == "complete"}
        picks = chosen({number: [values[name] for name in objectives] for number, values in complete.items()})
        told = {
            "format": STUDY_FORMAT,
            "name": ledger.study.study_name,
            "versions": {**versions(), "optuna": optuna.__version__},
            **ledger.definition.plain(),
            "reference": reference or _known_reference(folder),
            "trials": trials,
            **picks,
        }
        files.write_text(folder / STUDY, json.dumps(told, indent=1, ensure_ascii=False) + "\n")
        for name in ("best", "knee"):
            number = picks[name]
            if number is not None:
                recipe = next(trial["recipe"] for trial in trials if trial["number"] == number)
                files.write_text(folder / f"{name}.yaml", yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True))


def _plain(ledger: Ledger, trial: FrozenTrial) -> dict[str, Any]:
    known = trial.user_attrs
    complete = trial.state == TrialState.COMPLETE
    return {
        "number": trial.number,
        "state": STATES[trial.state],
        "values": dict(zip(ledger.definition.objectives, trial.values, strict=True)) if complete else None,
        "params": ledger.params(trial),
        "recipe": known.get("recipe"),
        "runs": known.get("runs", []),
        "epochs": {str(epoch): error for epoch, error in sorted(trial.intermediate_values.items())},
        "reason": known.get("reason", ""),
        "worker": known.get("worker", ""),
        "lost": known.get("lost", 0),
        "versions": known.get("versions", {}),
    }


def _known_reference(folder: Path) -> Any:
    """The reference that an earlier call gave."""
    try:
        return json.loads((folder / STUDY).read_text(encoding="utf-8")).get("reference")
    except (OSError, ValueError, AttributeError):
        return None
