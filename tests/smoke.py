"""Try an installed dipfast: every task once, for three iterations, and the command line.

    python tests/smoke.py            # all of it
    python tests/smoke.py --kernels  # only what needs no torch

For a wheel, in an environment of its own: it uses public names only, and nothing of the test suite.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import platform
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

import numpy as np

import dipfast

ITERATIONS = 3


def make_picture(rows: int = 32, columns: int = 40) -> np.ndarray:
    """Return a small noisy picture of 8 bits with edges, shading and colour."""
    y, x = np.mgrid[0:rows, 0:columns]
    clean = np.stack([60 + 3 * x, 200 - 4 * y, 90 + 0 * x], axis=-1)
    clean[8:20, 10:28] = (220, 60, 40)
    noise = np.random.default_rng(0).normal(0, 25, clean.shape)
    return (clean + noise).round().clip(0, 255).astype(np.uint8)


def check_package() -> None:
    """Check that it is installed, and that the compiled module is of the same version."""
    print(f"dipfast {dipfast.__version__} in {Path(dipfast.__file__).parent}")
    assert dipfast.__version__ == importlib.metadata.version("dipfast")


def check_kernels() -> None:
    """Run the compiled kernels on arrays, without torch."""
    picture = make_picture() / 255
    smooth = dipfast.ops.tv_denoise(picture, channel_axis=-1)
    assert smooth.shape == picture.shape
    variation = dipfast.ops.total_variation
    assert variation(smooth, channel_axis=-1) < variation(picture, channel_axis=-1)
    assert dipfast.ops.psnr(picture, picture, data_range=1.0) == np.inf
    assert "torch" not in sys.modules, "the kernels have imported torch"
    print("kernels: done")


def check_tasks() -> None:
    """Run every task on a small array."""
    noisy = make_picture()
    rows, columns, channels = noisy.shape
    mask = np.zeros((rows, columns), dtype=bool)
    mask[5:9, 5:30] = True
    blur = dipfast.operators.Blur(dipfast.operators.gaussian_kernel(1.0))
    options = {"max_iterations": ITERATIONS}

    results = {
        "denoise": dipfast.denoise(noisy, **options),
        "inpaint": dipfast.inpaint(noisy, mask, **options),
        "restore": dipfast.restore(noisy, blur, **options),
    }
    for task, result in results.items():
        assert result.image.shape == noisy.shape, task
        assert result.image.dtype == noisy.dtype, task
    known = results["inpaint"].image[~mask]
    np.testing.assert_array_equal(known, noisy[~mask])
    large = dipfast.super_resolve(noisy, 2, **options).image
    assert large.shape == (2 * rows, 2 * columns, channels)
    print("tasks: done")


def run_command(*arguments: str) -> str:
    """Run the installed command, check that it succeeds, and return what it prints."""
    command = shutil.which("dipfast", path=sysconfig.get_path("scripts"))
    assert command is not None, "the command dipfast is not installed"
    done = subprocess.run(
        [command, *arguments], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, f"{arguments}: status {done.returncode}\n{done.stderr}"
    return done.stdout


def check_command_line() -> None:
    """Ask the command for its version and its help, and let it denoise a picture."""
    from PIL import Image

    assert dipfast.__version__ in run_command("--version")
    assert "denoise" in run_command("--help")
    noisy = make_picture()
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "noisy.png"), Path(folder, "clean.png")
        Image.fromarray(noisy).save(source)
        limit = str(ITERATIONS)
        run_command("denoise", str(source), str(target), "--max-iterations", limit, "--quiet")
        with Image.open(target) as clean:
            assert clean.size == (noisy.shape[1], noisy.shape[0])
    print("command line: done")


def main() -> None:
    """Run all checks, or those that need no torch."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kernels", action="store_true", help="only what needs no torch")
    options = parser.parse_args()
    print(f"Python {platform.python_version()} on {platform.platform()}")
    check_package()
    check_kernels()
    if not options.kernels:
        check_tasks()
        check_command_line()


if __name__ == "__main__":
    main()
