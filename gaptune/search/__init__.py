"""The search without Ray: what to try next, what a report means, when a trial has ended."""
