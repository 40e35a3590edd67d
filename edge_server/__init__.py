"""The edge node: raw frames, gRPC and HTTP in; batches through one engine; answers, metrics and feedback out."""
