"""Rerankers: a server, or a folder in ONNX."""
