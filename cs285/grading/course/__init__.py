"""Grades all hand-ins of a course, each in a process of its own, and writes tables and pages."""
