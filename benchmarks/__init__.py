"""One command per published table; results with commit and machine under ``benchmarks/results``."""
