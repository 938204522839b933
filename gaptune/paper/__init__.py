"""The paper's tables, claims, figures and theory (Yaras et al. 2024, arXiv 2412.07909), from own runs."""
