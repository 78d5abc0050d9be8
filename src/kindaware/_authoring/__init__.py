"""What writes models: tensors from an example, configuration text, scaffolds, and ports of other code."""
