"""Tools for graders: student code runs in a sandbox, and only its numbers are judged here."""
