"""Typed configs: one class per algorithm, YAML in, agent out."""

from cs285.env_configs.base_config import BaseConfig
from cs285.env_configs.loading import load_config, load_sweep

__all__ = ["BaseConfig", "load_config", "load_sweep"]
