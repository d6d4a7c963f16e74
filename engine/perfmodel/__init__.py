"""What a transformer costs on a device: pure functions from settings and arrays of workloads to numbers.

`deployment` says what is predicted and whether it can be; `summary` predicts many points at once;
`rows` is the operator table of one point; `capacity` answers what fits. Importing this package loads
nothing: a plan needs `deployment` alone, and that needs no NumPy.
"""
