"""Pictures of an estimate, drawn to files and never to a screen."""

import matplotlib

matplotlib.use("Agg")
