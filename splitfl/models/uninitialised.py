"""Building a model whose values come later without first drawing those that its constructor would."""

from collections.abc import Callable
from typing import Any

from torch.overrides import TorchFunctionMode


class Uninitialised(TorchFunctionMode):
    """A context in which `torch.nn.init` leaves tensors as they are.

    On the meta device there is nothing to initialise, yet torch takes a third of a model's
    construction to work out the shapes of the values that it does not draw.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Calls the function, or returns the first argument of one from `torch.nn.init`."""
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)
