"""Results as one page, one PDF and one workbook, all from the same prepared data."""
