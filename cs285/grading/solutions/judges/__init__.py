"""One judge per agent: the calls to make on its class, and what the results mean."""
