"""ONNX graphs as both `quantize`, which writes them, and `lint`, which judges them, see them."""
