"""The Open Inference Protocol, version 2, beside our own service: a codec is a model, a bitstream its input."""
