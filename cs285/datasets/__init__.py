"""Dataset files: reading, writing and converting transitions."""
