"""The confined process that runs student code."""
