"""Embedding models: the packaged one, a folder in ONNX, fastembed by name, or a server."""
