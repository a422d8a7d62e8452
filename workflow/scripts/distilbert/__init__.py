"""Distil a BERT: the library that the workflow's step scripts share.

Import the modules by name (`from distilbert import tokens`); nothing is imported here, so that a step
pays only for what it uses. The import order is one way only and held by tests/test_imports.py.
"""
