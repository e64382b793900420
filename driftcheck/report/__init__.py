"""A report as text: a module for each format, its parts named after it, and the value that they all render."""
