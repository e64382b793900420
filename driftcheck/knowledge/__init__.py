"""Compatibility knowledge that no artefact states: tables in JSON, each row with its source."""
