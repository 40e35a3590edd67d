"""The command line, the demo, and the generated stubs under ``v1``."""
