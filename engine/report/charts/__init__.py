"""One module a family of charts; each returns plain Vega-Lite descriptions, or nothing without data."""
