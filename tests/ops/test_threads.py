"""Test kernels in processes with other threads, and in forked processes."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from dipfast import ops

# Runs in a process of its own: forks after both torch and the kernels have used their threads.
FORKING = """
import os, sys, warnings
import numpy as np
{imports}
from dipfast import ops
warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12: threads and fork
x = np.random.default_rng(0).random((3, 300, 300), dtype=np.float32)
{before}
expected = ops.total_variation(x)
child = os.fork()
if child == 0:
    os._exit(0 if ops.total_variation(x) == expected else 1)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


class TestFork:
    @pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="no fork on this system")
    @pytest.mark.parametrize("with_torch", [True, False])
    def test_a_forked_process_can_compute(self, with_torch: bool) -> None:
        imports, before = "", ""
        if with_torch:
            imports = "import torch"
            before = "torch.set_num_threads(2); torch.rand(3000, 300).exp().sum()"
        code = FORKING.format(imports=imports, before=before)
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr


class TestPythonThreads:
    def test_several_at_once(self) -> None:
        rng = np.random.default_rng(0)
        images = [rng.random((3, 150, 40 + 60 * k)) for k in range(8)]

        def kernels(x: np.ndarray) -> tuple[float, np.ndarray]:
            for _ in range(20):
                result: tuple[float, np.ndarray] = ops.tv_objective(
                    x, x[::-1], 0.1, return_gradient=True
                )
            return result

        expected = [kernels(x) for x in images]
        with ThreadPoolExecutor(8) as pool:
            got = list(pool.map(kernels, images))
        for (value, gradient), (other, slope) in zip(expected, got):
            assert value == other
            np.testing.assert_array_equal(gradient, slope)

    @pytest.mark.skipif(not sysconfig.get_config_var("Py_GIL_DISABLED"), reason="has the GIL")
    def test_the_interpreter_stays_free_threaded(self) -> None:
        assert not sys._is_gil_enabled()
