"""What is measured, a module for each thing; every measure starts on empty tables."""
