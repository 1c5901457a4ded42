"""Run folders, logs, sinks, summaries, statistics and figures."""
