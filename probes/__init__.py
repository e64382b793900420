"""The payload's source: standalone probe scripts, standard library only, Python 3.6 and newer."""
