"""Run folders, logs, summaries, statistics and figures."""
