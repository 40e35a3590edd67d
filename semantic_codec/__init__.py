"""What both ends of the link must agree on: symbols, bitstream, frame, encoder and bundle formats (NumPy only)."""
