"""Call the compiled kernels so that they are right for all numbers, and keep what they need."""
