"""What a policy is worth, where its values are wrong, and how far it leaves its data: exactly."""
