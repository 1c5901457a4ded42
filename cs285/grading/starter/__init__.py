"""The starter for students."""
