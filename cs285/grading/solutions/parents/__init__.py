"""Plain parent classes for a child whose own parent is missing or wrong.

They run in the sandbox in place of the hand-in's files of the same names. They hold what the
assignment fixes: attributes, methods, and right steps. Like the files that students complete, they
state no objectives and assert no shapes: numbers show what a child's shapes do.
"""
