"""The tables every measurement fills, and the store that keeps them."""
