"""Estimates against measurements: the data, how it is read, what it says. validate.py is the command."""
