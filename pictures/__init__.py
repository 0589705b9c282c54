"""Pictures of an estimate, drawn to files and never to a screen."""

import os

os.environ["MPLBACKEND"] = "Agg"  # whatever it says: a senseless one would end the import

import matplotlib

matplotlib.use("Agg")  # where it was imported before
