"""Stores with one fault each, planted so that the suite can prove that it finds them.

All are the model store but for a few lines. The numbers are those of the plan of faults.
"""
