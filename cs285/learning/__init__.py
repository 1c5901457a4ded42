"""Objectives, replay buffers and the ensemble; knows no environment and no disk."""
