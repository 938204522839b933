"""Search spaces: parameters, their ranges, and their conditions."""
