"""Stubs of the Open Inference Protocol, generated from proto/weaklink/oip (``make proto``)."""
