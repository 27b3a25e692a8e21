"""Benchmarks: the budgets as figures of one run each. ``python -m benchmarks`` runs them, ``make test`` does not."""
