"""The quantize stage: the FP32 graph goes in, its FP16 or INT8 form comes out, again as ONNX."""
