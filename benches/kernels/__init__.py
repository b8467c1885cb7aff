"""Compare the compiled kernels with their peers; run by ``python -m benches.kernels``."""
