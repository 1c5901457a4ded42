"""What several lectures share: trained agents with exact evaluations, and files of results."""
