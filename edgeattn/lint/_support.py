"""Which ONNX operators TensorRT's parser has, and since when.

Source: the support matrix of onnx-tensorrt's docs/operators.md for 10.15, the static checks of its onnxOpCheckers.cpp
of 10.6, and its docs/Changelog.md for what came in between. What the matrix of 10.0 lacked is in `SINCE`.
"""

from __future__ import annotations

_ALWAYS = """
Abs Acos Acosh Add And ArgMax ArgMin Asin Asinh Atan Atanh AveragePool BatchNormalization Cast CastLike Ceil Celu Clip
Concat Constant ConstantOfShape Conv ConvTranspose Cos Cosh CumSum DepthToSpace DequantizeLinear Div Dropout Einsum Elu
Equal Erf Exp Expand EyeLike Flatten Floor GRU Gather GatherElements GatherND Gelu Gemm GlobalAveragePool GlobalLpPool
GlobalMaxPool Greater GreaterOrEqual GridSample GroupNormalization HardSigmoid HardSwish Hardmax Identity If
InstanceNormalization IsInf IsNaN LRN LSTM LayerNormalization LeakyRelu Less LessOrEqual Log LogSoftmax Loop
LpNormalization LpPool MatMul Max MaxPool Mean MeanVarianceNormalization Min Mish Mod Mul Neg NonMaxSuppression NonZero
Not OneHot Or PRelu Pad ParametricSoftplus Pow QuantizeLinear RNN RandomNormal RandomNormalLike RandomUniform
RandomUniformLike Range Reciprocal ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin
ReduceProd ReduceSum ReduceSumSquare Relu Reshape Resize ReverseSequence RoiAlign Round ScaledTanh Scan Scatter
ScatterElements ScatterND Selu Shape Shrink Sigmoid Sign Sin Sinh Size Slice Softmax Softplus Softsign SpaceToDepth
Split Sqrt Squeeze Sub Sum Tan Tanh ThresholdedRelu Tile TopK Transpose Trilu Unsqueeze Upsample Where Xor
"""

SINCE: dict[str, tuple[int, int]] = {
    **dict.fromkeys(_ALWAYS.split(), (10, 0)),
    "DeformConv": (10, 1),
    **dict.fromkeys(("BlackmanWindow", "HammingWindow", "HannWindow"), (10, 4)),
    "STFT": (10, 5),
    "Attention": (10, 14),
    **dict.fromkeys(("RMSNormalization", "RotaryEmbedding", "TensorScatter"), (10, 15)),
    "Swish": (11, 0),
}

CURES: dict[str, str] = {
    "AffineGrid": "Compute the grid from the matrix with MatMul.",
    "Attention": "Write it as MatMul, Softmax and MatMul; TensorRT fuses these.",
    "Col2Im": "Use ConvTranspose or DepthToSpace.",
    "CenterCropPad": "Use Slice and Pad.",
    "Compress": "Use Where with a mask, or Gather with indices of fixed number.",
    "DynamicQuantizeLinear": "Calibrate, and quantize with QuantizeLinear and DequantizeLinear.",
    "MaxUnpool": "Use Resize or ConvTranspose.",
    "MaxRoiPool": "Use RoiAlign.",
    "RMSNormalization": "Write it with Mul, ReduceMean, Sqrt and Div, in FP32.",
    "Swish": "Write it as x times Sigmoid of x.",
    **dict.fromkeys(
        ("QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger"),
        "Quantize in the Q/DQ form: QuantizeLinear and DequantizeLinear around the float operator.",
    ),
}
