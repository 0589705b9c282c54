"""Time models of kernels, by cause. Each reads an `Op` and a `Chip` and imports neither."""
