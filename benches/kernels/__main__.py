"""Compare the compiled kernels with their peers, in float32.

    python -m benches.kernels [SUBJECT ...] [--sizes 256 512 2048 4096] [--threads 1 2]
    python -m benches.kernels --device cuda

For every kernel, size and number of threads: both sides are checked to compute the same,
then run in turn, ours first.  Printed are the medians, the median of the ratios pair by
pair, the rate at which memory is read and written, and that rate as a share of what a copy
of the same number of bytes reaches in the same run.  Peers that are not installed are left
out.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from functools import partial

import torch

from benches.kernels import mse, nl_ridge, psnr, resample, ssim, total_variation, tv_denoise
from benches.kernels.comparison import HEADER, Comparison, rows

# Each yields its comparisons for images of this many rows and columns.
SUBJECTS: dict[str, Callable[[int], Iterator[Comparison]]] = {
    "total_variation": total_variation.comparisons,
    "mse": mse.comparisons,
    "psnr": psnr.comparisons,
    "ssim": ssim.comparisons,
    "resample": resample.comparisons,
    "tv_denoise": tv_denoise.comparisons,
    "nl_ridge": nl_ridge.comparisons,
}

# The subjects that have Triton kernels; their functions take the device as well.
ON_CUDA: dict[str, Callable[..., Iterator[Comparison]]] = {
    "total_variation": total_variation.comparisons,
    "mse": mse.comparisons,
    "psnr": psnr.comparisons,
}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="kernels against their peers")
    parser.add_argument("subjects", nargs="*", metavar="SUBJECT", help=", ".join(SUBJECTS))
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 512, 2048, 4096])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, torch.get_num_threads()])
    parser.add_argument("--seconds", type=float, default=1.0, help="for each row of the table")
    parser.add_argument("--device", default="cpu", help="cpu (the default) or cuda")
    options = parser.parse_args()
    subjects, name = SUBJECTS, "CPU"
    if options.device != "cpu":
        subjects = {key: partial(make, device=options.device) for key, make in ON_CUDA.items()}
        name = torch.cuda.get_device_name(options.device)
        options.threads = options.threads[-1:]
    unknown = set(options.subjects) - set(subjects)
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}; there are {', '.join(subjects)}")
    print(f"torch {torch.__version__}, {name}, float32\n\n{HEADER}")
    for subject in options.subjects or subjects:
        for size in options.sizes:
            for threads in options.threads:
                torch.set_num_threads(threads)
                for comparison in subjects[subject](size):
                    for row in rows(comparison, options.seconds):
                        print(row, flush=True)


if __name__ == "__main__":
    main()
