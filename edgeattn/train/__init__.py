"""The train stage: a data set and a recipe go in, `weights.safetensors` and `model.json` come out."""
