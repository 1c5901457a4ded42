"""Helpers that every other package may use, and names that students' files import."""
