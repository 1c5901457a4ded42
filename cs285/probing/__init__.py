"""Tries an agent's methods on made-up networks and transitions, without any formula."""
