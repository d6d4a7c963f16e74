"""Judging of results: scores, ranking, Pareto fronts and searches; nothing here measures anything."""
