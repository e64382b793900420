"""driftcheck explains why inference works in one environment and breaks in another."""

__version__ = "0.1.0"
