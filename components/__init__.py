"""KFP components, one a file: import one function, call it."""

IMAGE = "ghcr.io/tidegate/components-python:0.1.0"
"""Base image of every component; deploy replaces it by digest."""
