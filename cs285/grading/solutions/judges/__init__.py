"""What each of the six agents is asked, and what its answers mean."""
