"""Grades all hand-ins of a course, each in its own process, and writes tables and pages."""
