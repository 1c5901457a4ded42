"""Tools for those who grade: student code is run apart, and judged here by its numbers alone."""
