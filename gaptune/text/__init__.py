"""Escaped text for terminals, Markdown and HTML, old names, plurals, and exact fractions."""
