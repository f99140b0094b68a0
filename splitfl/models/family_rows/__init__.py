"""Rows of the table of families, by kind of model, and the model types that are refused."""
