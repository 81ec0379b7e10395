"""Several runs for one command: repeated, beside each other, counted, reported."""
