"""Grades hand-ins by their files and logs."""
