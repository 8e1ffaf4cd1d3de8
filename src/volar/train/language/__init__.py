"""Fine-tuning a small language model to set movement primitives: lessons that geometry writes, the loop, the exam."""
