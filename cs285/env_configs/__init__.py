"""Typed configs: one class per algorithm, YAML in, agent out."""

from cs285.env_configs.base_config import BaseConfig
from cs285.env_configs.loading import CONFIGS, load_config, load_sweep

__all__ = ["CONFIGS", "BaseConfig", "load_config", "load_sweep"]
