"""The homework's scripts and the tools around it."""
