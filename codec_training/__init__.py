"""Training, evaluation and export of codecs."""
