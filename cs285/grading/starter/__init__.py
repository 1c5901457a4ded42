"""Makes the starter for students."""
