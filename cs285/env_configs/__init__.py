"""Typed configs: one class per algorithm, from YAML to an agent."""

from cs285.env_configs.base_config import BaseConfig
from cs285.env_configs.loading import load_config, load_sweep

__all__ = ["BaseConfig", "load_config", "load_sweep"]
