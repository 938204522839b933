"""The gradient flow of the paper: reduced to two numbers, of free features, and of a real CLIP's first steps."""
