"""The compiled kernels against their peers; run by ``python -m benches.kernels``."""
