"""Objectives, replay buffers and the ensemble, independent of environments and of the disk."""
