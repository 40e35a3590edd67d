"""Stubs generated from proto/weaklink/v1 (``make proto``)."""
