"""The export stage: a trained model goes in, one FP32 ONNX graph that takes camera frames comes out."""
