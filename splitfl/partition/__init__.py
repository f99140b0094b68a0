"""Cuts Hugging Face models into pieces that together compute exactly what the whole does.

Import from the modules: `families` and `source` answer at once, the others import transformers.
"""
