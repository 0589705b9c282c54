"""From published files to a model: config.json, checkpoints' formats, real modelling code."""
