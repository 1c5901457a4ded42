"""Checks of agent files against formulas."""
