"""The losses of the homework, each with the realistic mistakes and the variants beside it."""
