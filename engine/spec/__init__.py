"""What users write: typed settings, safe loading, located errors, catalogue and editor schema."""
