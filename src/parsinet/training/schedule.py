"""The learning rate as a pure function of the step."""

import math

from parsinet.training.recipe import Constant, Cosine, Steps


def learning_rate(schedule: Constant | Steps | Cosine, base: float, step: int, steps: int, steps_per_epoch: int) -> float:
    """Learning rate of one optimizer step.

    With T = `steps`, t = `step` (0-based), w = warmup·T and h = hold·T:
      constant   η(t) = η₀
      steps      η(t) = the lr of the last entry [e, lr] with e ≤ epoch(t), η₀ before the first
      cosine     η(t) = η₀ for t < w + h, then η₀·(f + (1 − f)·(1 + cos πu)/2), u = (t − w − h)/(T − w − h), f = final
    and while t < w all of them times (t + 1)/w.

    base: η₀. steps: optimizer steps of the whole run. steps_per_epoch: to tell the epoch.
    """
    warm = round(schedule.warmup * steps)
    rate = base
    if isinstance(schedule, Steps):
        epoch = step // steps_per_epoch + 1
        rate = next((lr for first, lr in reversed(schedule.steps) if first <= epoch), base)
    elif isinstance(schedule, Cosine):
        begin = warm + round(schedule.hold * steps)
        if step >= begin and steps > begin:
            descent = (1 + math.cos(math.pi * (step - begin) / (steps - begin))) / 2
            rate = base * (schedule.final + (1 - schedule.final) * descent)
    return rate * (step + 1) / warm if step < warm else rate
