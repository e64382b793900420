"""How an environment is named and reached: one small module per kind of reference."""
