"""The hand-in: the runs of every question, logs that are small enough, and one zip."""
