"""Residual additions in the exported graph, and what of it nobody needs once a branch is read as zero."""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from parsinet.structure.blocks import Clauses
from parsinet.structure.export import Exported

NEVER: Clauses = frozenset()
ALWAYS: Clauses = frozenset([frozenset[str]()])
MOST = 24
"""Clauses that are followed; what would need more stays."""

ADDITIONS = {"add.Tensor", "add_.Tensor"}
NO_USE = {"_assert_tensor_metadata", "_assert_async", "sym_constrain_range_for_size"}
"""Operators that compute nothing."""
CONTRACTIONS = re.compile(r"linear|conv\w*|matmul|b?mm|addmm|baddbmm|einsum|scaled_dot_product_attention|bilinear|lstm|gru|rnn_\w+")
ZERO_KEEPING = re.compile(
    r"view|reshape|_unsafe_view|flatten|unflatten|permute|transpose|t|squeeze|unsqueeze|contiguous|clone|to|_to_copy|alias|detach|dropout|"
    r"feature_dropout|feature_alpha_dropout|mul_?|div_?|neg|relu_?|gelu|silu|tanh|slice|select|roll|flip|movedim|expand|unbind|split|chunk|"
    r"split_with_sizes|getitem|pad|constant_pad_nd|masked_fill|pixel_shuffle|pixel_unshuffle|channel_shuffle|upsample_\w+|"
    r"avg_pool[123]d|adaptive_avg_pool[123]d|mean|sum"
)
"""Operators whose result is zero where their first (of a product: one) operand is."""

STRAIGHT = re.compile(
    r"linear|conv[123]d|addmm|matmul|mm|batch_norm|avg_pool[123]d|adaptive_avg_pool[123]d|view|reshape|flatten|transpose|permute|t|contiguous"
)
"""Operators that are linear maps of their operand, constants beside it; in evaluation mode."""


@dataclass(frozen=True)
class Branch:
    """A term of a sum that may be left out. value: the term; addition: the operator that adds it; own: nodes only it needs."""

    value: Node
    addition: Node
    own: frozenset[Node]


class Graph:
    """Who reads what in an exported network, in the order of computation."""

    def __init__(self, exported: Exported) -> None:
        self.nodes = list(exported.graph.nodes)
        self.place = {node: number for number, node in enumerate(self.nodes)}
        self.tensors = exported.tensors
        self.users = {node: tuple(user for user in node.users if name_of(user) not in NO_USE) for node in self.nodes}
        self.constant = self._constants()

    def _constants(self) -> dict[Node, bool]:
        """Whether a node is computed from the model's own tensors alone."""
        found: dict[Node, bool] = {}
        for node in self.nodes:
            own = node.op == "placeholder" and node.name in self.tensors
            found[node] = own or node.op == "get_attr" or (node.op == "call_function" and all(found[i] for i in node.all_input_nodes))
        return found

    def exclusive(self, value: Node, addition: Node) -> frozenset[Node]:
        """The nodes that only `value` needs, itself included, if the addition is its one reader."""
        if self.users[value] != (addition,) or value.op != "call_function":
            return frozenset()
        own = {value}
        waiting = [(-self.place[node], node) for node in set(value.all_input_nodes)]
        heapq.heapify(waiting)
        seen = {node for _, node in waiting}
        while waiting:
            _, node = heapq.heappop(waiting)
            if not all(user in own for user in self.users[node]) or self._is_input(node):
                continue
            own.add(node)
            for source in node.all_input_nodes:
                if source not in seen:
                    seen.add(source)
                    heapq.heappush(waiting, (-self.place[source], source))
        return frozenset(own)

    def _is_input(self, node: Node) -> bool:
        return node.op == "placeholder" and node.name not in self.tensors

    def needed(self, node: Node) -> bool:
        """Whether somebody reads the operator's result or it may write somewhere."""
        return bool(self.users[node]) or (name_of(node) not in NO_USE and _acts(node))

    def entries(self, own: Iterable[Node]) -> set[Node]:
        """What comes into these nodes from elsewhere, constants aside."""
        inside = set(own)
        return {source for node in inside for source in node.all_input_nodes if source not in inside and not self.constant[source]}

    def read_by(self, nodes: Iterable[Node]) -> set[Node]:
        """The model's tensors that these operators read."""
        return {source for node in nodes for source in node.all_input_nodes if source.op == "placeholder" and source.name in self.tensors}

    def ancestors(self, nodes: Iterable[Node], first: int) -> Iterator[Node]:
        """The nodes and everything they are computed from, as far back as place `first`."""
        found: set[Node] = set()
        waiting = list(nodes)
        while waiting:
            node = waiting.pop()
            if node not in found and self.place[node] >= first:
                found.add(node)
                waiting.extend(node.all_input_nodes)
                yield node

    def branches(self) -> list[Branch]:
        """The residual branches: terms of a sum computed from what another term, the skip, is made of."""
        return [branch for addition in self.nodes if self._ends_a_sum(addition) for branch in self._of_sum(addition)]

    def _ends_a_sum(self, node: Node) -> bool:
        return is_addition(node) and not (len(self.users[node]) == 1 and is_addition(self.users[node][0]))

    def _of_sum(self, root: Node) -> list[Branch]:
        terms = [Branch(value, addition, self.exclusive(value, addition)) for value, addition in self._terms(root)]
        weighty = [term for term in terms if self.read_by(term.own)]
        skips = [term for term in terms if term not in weighty and not self.constant[term.value] and not is_empty(term.value)]
        if not skips:
            skips = self._projection(weighty)
        anchors = {skip.value for skip in skips} | {node for skip in skips for node in self.entries(skip.own)}
        first = min((self.place[anchor] for anchor in anchors), default=0)
        shape = shape_of(root)
        able = [term for term in weighty if term not in skips and shape_of(term.value) == shape and self.entries(term.own)]
        return [term for term in able if any(node in anchors for node in self.ancestors(self.entries(term.own), first))]

    def _terms(self, addition: Node) -> Iterator[tuple[Node, Node]]:
        left, right = addition.args[:2]
        for operand in (left, right):
            if isinstance(operand, Node) and left is not right:
                if is_addition(operand) and self.users[operand] == (addition,):
                    yield from self._terms(operand)
                else:
                    yield operand, addition

    def _projection(self, terms: Sequence[Branch]) -> list[Branch]:
        """Of terms that all have weights the one with the fewest maps, at most one of them, and of several such the one that is linear: the
        shortcut, if there is just one such."""
        counts = [sum(CONTRACTIONS.fullmatch(operator(node)) is not None for node in term.own) for term in terms]
        least = [term for term, count in zip(terms, counts, strict=True) if count == min(counts) <= 1]
        if len(least) > 1:
            least = [term for term in least if all(self.constant[node] or STRAIGHT.fullmatch(operator(node)) for node in term.own)]
        return least if len(least) == 1 else []

    def dead(self, blocks: Mapping[tuple[Node, Node], str]) -> dict[Node, Clauses]:
        """Per node, with which blocks gone nobody needs it. blocks: (value, addition) of every branch → its block."""
        found: dict[Node, Clauses] = {}
        for node in reversed(self.nodes):
            if node.op == "output" or self._is_input(node) or (not self.users[node] and self.needed(node)):
                found[node] = NEVER
                continue
            needs = ALWAYS
            for user in self.users[node]:
                block = blocks.get((node, user))
                needs = both(needs, either(found[user], frozenset([frozenset([block])])) if block else found[user])
            found[node] = needs
        return found


def both(left: Clauses, right: Clauses) -> Clauses:
    """Clauses under which the one and the other hold."""
    if left is right or right is ALWAYS:
        return left
    return right if left is ALWAYS else _least(a | b for a in left for b in right)


def either(left: Clauses, right: Clauses) -> Clauses:
    """Clauses under which the one or the other holds."""
    return _least((*left, *right))


def _least(clauses: Iterable[frozenset[str]]) -> Clauses:
    """Without clauses that hold another; too many are none."""
    ordered = sorted(set(clauses), key=len)
    least: list[frozenset[str]] = []
    for clause in ordered:
        if not any(smaller <= clause for smaller in least):
            least.append(clause)
    return frozenset(least) if len(least) <= MOST else NEVER


def is_addition(node: Node) -> bool:
    """Whether the node adds two tensors."""
    return node.op == "call_function" and str(node.target).removeprefix("aten.") in ADDITIONS and len(node.all_input_nodes) == 2


def operator(node: Node) -> str:
    """The operator's name without library and overload."""
    return name_of(node)


def name_of(node: Node) -> str:
    """`conv2d` of aten.conv2d.default, `getitem` of Python's."""
    if node.op != "call_function":
        return ""
    target: Any = node.target
    return str(target.overloadpacket.__name__) if isinstance(target, torch._ops.OpOverload) else str(getattr(target, "__name__", target))


def shape_of(node: Node) -> tuple[int, ...]:
    """The shape of the tensor a node computes; () for anything else."""
    value = node.meta.get("val")
    return tuple(value.shape) if isinstance(value, Tensor) else ()


def modules_of(node: Node) -> list[str]:
    """Paths of the modules whose forward ran this operator, outermost first; the model itself is ''."""
    stack = node.meta.get("nn_module_stack") or {}
    return [re.sub(r"@\d+$", "", str(entry[0])) for entry in stack.values()]


def is_empty(node: Node) -> bool:
    """Whether the node is zeros made there and then: what an absent module answers is no skip."""
    while ZERO_KEEPING.fullmatch(operator(node)) and node.all_input_nodes:
        node = node.all_input_nodes[0]
    return operator(node) in ("zeros", "zeros_like", "new_zeros")


def _acts(node: Node) -> bool:
    """Whether an operator without readers may write somewhere."""
    return node.op == "call_function" and isinstance(node.target, torch._ops.OpOverload) and node.target._schema.is_mutable
