"""A report as text: one module per format, and the value that they all render."""
