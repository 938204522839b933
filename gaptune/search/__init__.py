"""The search without Ray: drawing candidates, early stopping, and ending trials."""
