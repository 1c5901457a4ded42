"""Grades all hand-ins of a course, each in a separate process, and writes tables and pages."""
