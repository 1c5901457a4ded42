"""Networks: critics and policies."""
