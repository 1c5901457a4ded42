"""Makes the hand-in: selects the runs for every question, thins their logs, and writes a zip."""
