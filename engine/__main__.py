"""`python -m engine`: the same commands as `engine`, for a machine whose PATH lacks the script."""

from engine.cli import main

if __name__ == "__main__":
    main()
