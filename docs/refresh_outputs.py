"""The old name of docs/refresh.py."""

from refresh import main

main()
