"""The losses of the homework, each with its realistic mistakes and accepted variants."""
