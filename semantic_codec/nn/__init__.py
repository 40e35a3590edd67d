"""The torch modules: encoders, quantizers, channels, decoders, tails, families."""
