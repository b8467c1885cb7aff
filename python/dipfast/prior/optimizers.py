"""Update weights by orthogonalised momentum.

:class:`Muon` takes the weights of a convolution for a matrix and fits a network in fewer iterations
than Adam, which treats each number by itself.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim.adam import adam

from dipfast.checks import shown
from dipfast.errors import InputError, InputTypeError

__all__ = ["Muon"]

# Of the odd polynomial a s + b s^3 + c s^5 of the singular values s.  Applied five times it brings
# what is between 0.0015 and 1 to between 0.67 and 1.21: fast, not exact.
_A, _B, _C = 3.4445, -4.7750, 2.0315

# Square of the smallest Frobenius norm that is scaled to 1: squares of smaller numbers would
# underflow in single precision.  A matrix of zeros stays one.
_LEAST_SQUARE = 1e-30

_MATRIX_STATE = {"momentum_buffer"}
_ADAM_STATE = {"step", "exp_avg", "exp_avg_sq"}


class Muon(torch.optim.Optimizer):
    r"""Minimise by orthogonalised momentum, and by Adam where a parameter is no matrix.

    A parameter W of two dimensions or more, such as the weight of a convolution, is a matrix of
    r = out_channels rows and c = in_channels * height * width columns.  With its gradient G, the
    momentum B and the learning rate :math:`\eta`, a step is

    .. math:: B \leftarrow \mu B + (1 - \mu) G, \quad
              M = \mu B + (1 - \mu) G, \quad
              W \leftarrow W - \eta \sqrt{\max(1, r / c)} \; p^k(M / \|M\|_F),

    with :math:`p(X) = 3.4445 X - 4.7750 X X^T X + 2.0315 (X X^T)^2 X`, applied k times
    (Newton-Schulz iteration).  It leaves the singular vectors of M as they are and makes the
    singular values nearly equal, so that all directions are learned equally fast, and it does not
    depend on the scale of the gradient.  All other parameters (biases, batch normalisation) are
    updated by Adam.

    Parameters
    ----------
    parameters
        The tensors to fit, float32 or float64; those without a gradient are left as they are.
    lr
        Learning rate of the matrices, not negative; a number or a scalar tensor.  The default,
        0.2, suits networks of 16 to 128 channels with batch normalisation; let it fall to a tenth
        by the end of the fit.
    adam_lr
        Learning rate of Adam for all other parameters, not negative; a number or a scalar tensor.
        The default is 0.02, and falls with ``lr``.
    momentum
        Weight :math:`\mu` that the momentum keeps, in [0, 1); 0.95 as published.
    betas
        Weights that the two moments of Adam keep, in [0, 1); (0.9, 0.999) as usual.
    eps
        Number that Adam adds to its denominator, positive; 1e-8 as usual.
    ns_steps
        Number k of steps of the Newton-Schulz iteration, from 1 up; 5 as published.  Fewer are
        faster and treat directions of small singular values less equally.

    Raises
    ------
    TypeError
        If the parameters are not tensors.
    ValueError
        If there are no parameters, or an argument is out of its range; by ``load_state_dict``, if
        the state is that of another optimiser or of other parameters.

    Notes
    -----
    ``param_groups`` has two groups, the matrices and the rest (one of them may be empty).  A
    schedule multiplies ``"lr"`` of both by the same factor.  The state of a matrix is
    ``momentum_buffer``; that of the rest is what Adam has: ``step``, ``exp_avg``, ``exp_avg_sq``.
    A step does not wait for the device.

    The iteration is a polynomial of the small matrix :math:`X X^T`, :math:`p(X) = P X`, and
    :math:`p(X) p(X)^T = P X X^T P`.  So it is computed with products of small matrices, for all
    matrices with the same number of rows at once, and the wide ones take part in two products of
    a step instead of 2 k.  The singular values differ by up to 0.001 from those of the plain
    iteration.

    References
    ----------
    .. [1] K. Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024,
       https://kellerjordan.github.io/posts/muon/.

    Examples
    --------
    >>> import torch
    >>> layer = torch.nn.Conv2d(3, 8, kernel_size=3)
    >>> optimizer = Muon(layer.parameters(), lr=0.1)
    >>> layer(torch.rand(1, 3, 16, 16)).square().mean().backward()
    >>> optimizer.step()
    >>> [len(group["params"]) for group in optimizer.param_groups]
    [1, 1]
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        lr: float | Tensor = 0.2,
        adam_lr: float | Tensor = 0.02,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        ns_steps: int = 5,
    ) -> None:
        parameters = list(parameters)
        for parameter in parameters:
            if not isinstance(parameter, Tensor):
                raise InputTypeError(f"parameters must be tensors, got {shown(parameter)}")
        if not parameters:
            raise InputError("parameters must have one tensor at least, got none")
        checks = {
            "lr": (lr, "not negative", isinstance(lr, Tensor) or lr >= 0),
            "adam_lr": (adam_lr, "not negative", isinstance(adam_lr, Tensor) or adam_lr >= 0),
            "momentum": (momentum, "in [0, 1)", 0 <= momentum < 1),
            "betas": (
                betas,
                "two numbers in [0, 1)",
                len(betas) == 2 and all(0 <= beta < 1 for beta in betas),
            ),
            "eps": (eps, "positive", eps > 0),
            "ns_steps": (
                ns_steps,
                "an integer from 1 up",
                isinstance(ns_steps, int) and ns_steps >= 1,
            ),
        }
        for name, (value, expected, fits) in checks.items():
            if not fits:
                raise InputError(f"{name} must be {expected}, got {shown(value)}")
        matrices = [p for p in parameters if p.ndim >= 2]
        others = [p for p in parameters if p.ndim < 2]
        groups: list[dict[str, Any]] = [
            {"params": matrices, "lr": lr, "momentum": momentum, "ns_steps": ns_steps},
            {
                "params": others,
                "lr": adam_lr,
                "betas": betas,
                "eps": eps,
                # The fused kernel goes through the memory of a parameter and looks at no strides.
                # By this name torch knows, too, that step counts have to be on the device.
                "fused": all(
                    p.device.type in ("cpu", "cuda") and p.is_contiguous() for p in others
                ),
            },
        ]
        super().__init__(groups, {})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Refuse further groups: there are two, and ``step`` knows them by their places."""
        if len(self.param_groups) == 2:
            raise InputError("Muon has two groups of parameters; give all to the constructor")
        super().add_param_group(param_group)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take over a state, as ``load_state_dict``, ``copy`` and ``pickle`` do."""
        super().__setstate__(state)
        for group, names in zip(self.param_groups, (_MATRIX_STATE, _ADAM_STATE)):
            for parameter in group["params"]:
                if parameter in self.state:
                    _check_state(parameter, self.state[parameter], names)

    @torch.no_grad()
    def step(  # type: ignore[override]
        self, closure: Callable[[], float] | None = None
    ) -> float | None:
        """Do one step with the gradients at hand.

        Parameters
        ----------
        closure
            A function that computes the gradients and returns the objective; None, the default,
            takes the gradients as they are.

        Returns
        -------
        float or None
            What the closure returned.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        matrices, others = self.param_groups
        self._orthogonalised_step(matrices)
        self._adam_step(others)
        return loss

    def _orthogonalised_step(self, group: dict[str, Any]) -> None:
        fitted, gradients = _with_gradients(group)
        if not fitted:
            return
        for parameter in fitted:
            if not self.state[parameter]:
                self.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
        buffers = [self.state[p]["momentum_buffer"] for p in fitted]
        torch._foreach_lerp_(buffers, gradients, 1 - group["momentum"])
        updates = torch._foreach_lerp(gradients, buffers, group["momentum"])

        same_size = defaultdict(list)
        for parameter, update in zip(fitted, updates):
            matrix = _as_matrix(update, parameter)
            size = min(matrix.shape)
            same_size[size, matrix.dtype, matrix.device].append((parameter, matrix))
        for (size, _, _), members in same_size.items():
            grams = members[0][1].new_empty(len(members), size, size)
            for gram, (_, matrix) in zip(grams, members):
                x = matrix if _is_wide(matrix) else matrix.mT
                torch.mm(x, x.mT, out=gram)
            factors = _newton_schulz(grams, group["ns_steps"]) * group["lr"]
            for factor, (parameter, matrix) in zip(factors, members):
                _subtract(parameter, matrix, factor)

    def _adam_step(self, group: dict[str, Any]) -> None:
        fitted, gradients = _with_gradients(group)
        if not fitted:
            return
        fused = group["fused"]
        for parameter in fitted:
            if not self.state[parameter]:
                device = parameter.device if fused else "cpu"
                self.state[parameter] = {
                    "step": torch.zeros((), dtype=torch.float32, device=device),
                    "exp_avg": torch.zeros_like(parameter),
                    "exp_avg_sq": torch.zeros_like(parameter),
                }
        states = [self.state[p] for p in fitted]
        adam(
            fitted,
            [gradient.contiguous() for gradient in gradients],
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            [state["step"] for state in states],
            fused=fused or None,  # None: what torch takes on the device by default
            amsgrad=False,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"],
            weight_decay=0.0,
            eps=group["eps"],
            maximize=False,
        )


def _with_gradients(group: dict[str, Any]) -> tuple[list[Tensor], list[Tensor]]:
    """Return the parameters of a group that have a gradient, and the gradients."""
    pairs = [(p, p.grad) for p in group["params"] if p.grad is not None]
    return [p for p, _ in pairs], [gradient for _, gradient in pairs]


def _check_state(parameter: Tensor, state: dict[str, Any], names: set[str]) -> None:
    """Refuse the state of something else, and lay tensors out as the parameter is."""
    if state.keys() != names:
        raise InputError(f"the state of a parameter must have {sorted(names)}, got {sorted(state)}")
    for name in names - {"step"}:
        value = state[name]
        if value.shape != parameter.shape:
            raise InputError(
                f"{name} must have shape {tuple(parameter.shape)}, got {tuple(value.shape)}"
            )
        # With other strides products have other last bits, and the fused kernel of Adam would take
        # each number for that of another place (pytorch#106951).
        like = torch.empty_like(parameter, requires_grad=False)
        if value.stride() != like.stride():
            state[name] = like.copy_(value)


def _as_matrix(x: Tensor, parameter: Tensor) -> Tensor:
    """Return a tensor as a matrix, a view where its layout is that of the parameter.

    The order of the columns follows the layout of the parameter, ``contiguous`` or
    ``channels_last``: permuted columns are orthogonalised to permuted columns.
    """
    return (x.movedim(1, -1) if _is_channels_last(parameter) else x).flatten(1)


def _is_channels_last(parameter: Tensor) -> bool:
    return not parameter.is_contiguous() and parameter.movedim(1, -1).is_contiguous()


def _is_wide(matrix: Tensor) -> bool:
    return matrix.shape[0] <= matrix.shape[1]


def _subtract(parameter: Tensor, matrix: Tensor, factor: Tensor) -> None:
    """Subtract the product of factor and matrix from a parameter, with the scale of its shape."""
    rows, columns = matrix.shape
    weight = _as_matrix(parameter, parameter)
    if _is_wide(matrix):
        weight.addmm_(factor, matrix, alpha=-1)
    else:
        weight.addmm_(matrix, factor, alpha=-((rows / max(columns, 1)) ** 0.5))
    # Of neither layout, so that the matrix may be a copy.
    if not (parameter.is_contiguous() or _is_channels_last(parameter)):
        parameter.copy_(weight.view(parameter.shape))


def _newton_schulz(grams: Tensor, steps: int) -> Tensor:
    """Return the matrices L for which L X is X with nearly equal singular values.

    Parameters
    ----------
    grams
        Matrices X X^T, of shape (K, n, n); they may be overwritten.
    steps
        Number of steps, from 1 up.

    Returns
    -------
    Tensor
        The matrices L, of the same shape.
    """
    dtype = grams.dtype
    if _is_precision_reduced() and grams.device.type != "mps":  # which has no double precision
        # Small singular values would drown in the rounding of their squares to TF32 or bfloat16.
        grams = grams.double()
    squares = grams.diagonal(dim1=1, dim2=2).sum(1).clamp_min(_LEAST_SQUARE)[:, None, None]
    grams /= squares
    factors = None
    for k in range(steps):
        p = torch.baddbmm(grams, grams, grams, beta=_B, alpha=_C)
        p.diagonal(dim1=1, dim2=2).add_(_A)
        factors = p if factors is None else torch.bmm(p, factors)
        if k < steps - 1:
            grams = torch.bmm(torch.bmm(p, grams), p)
    assert factors is not None
    return (factors * squares.rsqrt()).to(dtype)


def _is_precision_reduced() -> bool:
    """Return whether torch may round factors of products of single precision to fewer digits."""
    try:
        return torch.get_float32_matmul_precision() != "highest"
    except RuntimeError:  # set for each back end by itself, which this function cannot express
        return True
