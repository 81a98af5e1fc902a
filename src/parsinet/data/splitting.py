"""Cutting off a part of the examples so that every class gives its share."""

import torch
from torch import Tensor


def stratified(labels: Tensor, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
    """Indices (kept, held): `held` has round(fraction·n) examples, shared among the classes in proportion; both ascending.

    Every class gives ⌊fraction·nₖ⌋ examples, the rest goes by largest remainder (ties to the smaller class number); no class gives
    its last example, so `held` may stay smaller where classes have one example. Depends on labels, fraction and seed only.
    """
    generator = torch.Generator().manual_seed(seed)
    counts = torch.bincount(labels)
    held = []
    for number, take in enumerate(_quotas(counts.tolist(), fraction)):
        members = (labels == number).nonzero().flatten()
        held.append(members[torch.randperm(len(members), generator=generator)[:take]])
    mask = torch.zeros(len(labels), dtype=torch.bool)
    mask[torch.cat(held)] = True
    return (~mask).nonzero().flatten(), mask.nonzero().flatten()


def _quotas(counts: list[int], fraction: float) -> list[int]:
    shares = [fraction * count for count in counts]
    quotas = [int(share) for share in shares]
    missing = round(fraction * sum(counts)) - sum(quotas)
    by_remainder = sorted(range(len(counts)), key=lambda number: (quotas[number] - shares[number], number))
    for number in by_remainder[: max(missing, 0)]:
        quotas[number] += 1
    return [min(quota, max(count - 1, 0)) for quota, count in zip(quotas, counts, strict=True)]
