"""What `import kvcalc` offers: each function takes names and plain numbers and returns a frozen report.

The command line and this front call the same rooms; neither calls the other.
"""
