"""Training, data, logging: what the scripts are made of."""
