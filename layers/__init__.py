"""From a model's letters to the kernels that each of its layers launches, in which formats."""
