"""Test that memory that is used again does not belong to two results at a time."""

from __future__ import annotations

import numpy as np
import torch

from dipfast import ops
from dipfast.ops import _buffers

LARGE = (3, 300, 300)


def address(x: np.ndarray) -> int:
    return x.__array_interface__["data"][0]


class TestBuffers:
    def test_used_again_when_nobody_looks_any_more(self) -> None:
        x = _buffers.empty((1000, 1000), np.float32)
        first = address(x)
        assert first % 64 == 0
        del x
        assert address(_buffers.empty((1000, 1000), np.float32)) == first

    def test_not_while_a_view_of_it_lives(self) -> None:
        x = _buffers.empty((1000, 1000), np.float32)
        x[:] = 1
        view = x[3:5, ::2]
        tensor = torch.from_numpy(x)[7:9]
        del x
        for _ in range(5):
            _buffers.empty((1000, 1000), np.float32)[:] = 2
        assert (view == 1).all()
        del view
        _buffers.empty((1000, 1000), np.float32)[:] = 3
        assert (tensor == 1).all()

    def test_results_are_independent(self) -> None:
        rng = np.random.default_rng(0)
        images = rng.random((6, *LARGE), dtype=np.float32)
        gradients = [ops.total_variation(x, return_gradient=True)[1] for x in images]
        copies = [gradient.copy() for gradient in gradients]
        for x in images:
            ops.total_variation(torch.from_numpy(-x), return_gradient=True)
        for gradient, copy in zip(gradients, copies):
            np.testing.assert_array_equal(gradient, copy)

    def test_results_can_be_written_to(self) -> None:
        gradient = ops.total_variation(np.zeros(LARGE), return_gradient=True)[1]
        gradient += 1
        assert gradient.flags.writeable
        assert (gradient == 1).all()

    def test_little_is_kept(self) -> None:
        for count in range(10**6, 10**6 + 10):
            _buffers.empty((count,), np.float64)
        assert len(_buffers._idle) <= 3
        _buffers.empty((2**28,), np.float64)
        assert all(memory.nbytes < 2**29 for memory in _buffers._idle)
