"""Plain parent classes for a child whose own parent is missing or wrong.

They run in the sandbox in place of the hand-in's files of the same names. They contain what the
assignment fixes: attributes, methods and right steps. Like the files that students complete, they
declare no objectives and assert no shapes, so that a child's wrong shapes show in the numbers.
"""
