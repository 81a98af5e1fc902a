"""The forward pass of a network that shrinks, compiled: anew after every removal, or once nothing leaves any more."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from parsinet.errors import RunError

Backend = Callable[[torch.fx.GraphModule, list[Tensor]], Callable[..., Any]]
BACKEND = "inductor"
PIECES = 64
"""So many compilations of one function are allowed: torch stops at 8, which a network of many equal blocks in pieces may exceed."""


class Compiled:
    """`model(x)` with its `forward` through `torch.compile`; the model itself stays the plain module it is.

    Shapes are constant: every batch size is compiled once per structure. Hooks on the model itself run outside. What torch cannot
    trace, such as gates in front of a layer, divides the graph; the pieces between are compiled. In a loop of your own:

        forward = Compiled(model)
        ...
        loss = loss_fn(forward(x), y) + pruner.penalty()
        ...
        if pruner.step() is not None:
            forward.renew()

    settled: run the plain model until `settle` is called. backend: torch's name of the compiler, its own unless given.
    compilations: graphs it was given so far.

    Errors: RunError if the compiler fails, as "inductor" does on a processor without a C++ compiler.
    """

    def __init__(self, model: nn.Module, *, settled: bool = False, backend: str | None = None) -> None:
        from torch._dynamo import lookup_backend  # takes seconds to import

        self._model, self._waits = model, settled
        self._backend: Backend = lookup_backend(backend or BACKEND)
        self.compilations = 0
        self._forward = torch.compile(model.forward, backend=self._compile, dynamic=False)

    def __call__(self, *inputs: Any) -> Any:
        """The model's output."""
        if self._waits:
            return self._model(*inputs)
        own = self._model.__dict__
        before = {"forward": own["forward"]} if "forward" in own else {}
        own["forward"] = self._forward
        try:
            with torch._dynamo.config.patch(recompile_limit=PIECES):
                return self._model(*inputs)
        except torch._dynamo.exc.BackendCompilerFailed as error:
            reason = str(error.inner_exception).strip().splitlines()[0].rstrip(".")
            raise RunError(f"torch.compile cannot compile the network ({reason}). Leave compile out.") from error
        finally:
            del own["forward"]
            own.update(before)

    def renew(self) -> None:
        """Units have left: forget what was compiled, in the whole process (`torch.compiler.reset`)."""
        if not self._waits:
            torch.compiler.reset()

    def settle(self) -> None:
        """The structure is fixed from here on."""
        self._waits = False

    def _compile(self, graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., Any]:
        self.compilations += 1
        return self._backend(graph, inputs)
