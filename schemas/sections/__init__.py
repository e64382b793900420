"""The facts of each section of a snapshot, one schema a file; `driftcheck schema snapshot` joins them."""
