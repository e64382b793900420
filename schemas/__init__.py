"""JSON Schema 2020-12 of everything that driftcheck writes and reads."""
