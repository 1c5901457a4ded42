"""The homework's losses, each with its likely mistakes and accepted variants."""
