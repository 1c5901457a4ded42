"""Makes the hand-ins of a whole course from a few real runs, some of them copied.

`logs` makes other students' logs from real ones, `hands` writes the same solution as different
people would, `copying` copies and disguises, and `students` puts hand-ins together.
"""
