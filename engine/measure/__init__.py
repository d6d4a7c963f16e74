"""What produces rows: one module or folder per kind of measurement, found through the registry."""
