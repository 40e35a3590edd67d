"""The lossy link: channel models, proxies that apply them to UDP frames and gRPC bitstreams, and their control API."""
