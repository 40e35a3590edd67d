"""Other model servers hosting the same engine, each as its own documentation advises; they run in an environment of
their own (benchmarks/rivals-requirements.txt), with this repository on the path."""
