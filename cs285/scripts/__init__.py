"""The scripts of the homework and the tools around it."""
