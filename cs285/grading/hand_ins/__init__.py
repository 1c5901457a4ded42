"""Grades of hand-ins, from their files and logs."""
